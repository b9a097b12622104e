"""The live feed of committed events, and the brokers that carry nudges."""

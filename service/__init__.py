"""Use cases: the only thing the doors call."""

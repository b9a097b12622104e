"""The room of capabilities."""

"""Capabilities that are registered while the service runs (F15)."""

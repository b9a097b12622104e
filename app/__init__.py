"""Puts the rooms together: settings, wiring, serve, work, command line."""

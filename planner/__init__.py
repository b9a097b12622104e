"""Turns an envelope into a sealed plan, or into findings that say what is missing; no I/O, deterministic (F4, F5)."""

"""Walks plans durably: one deterministic machine per run inside a thin shell that commits, then speaks."""

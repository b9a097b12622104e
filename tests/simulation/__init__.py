"""Deterministic simulation: whole processes of the service on one virtual clock, driven by one seed.

`python -m tests.simulation --seed S --count N` runs seeds; `world.py` says what a seed means.
"""

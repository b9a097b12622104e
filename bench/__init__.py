"""Measures flex beside other engines and the limits of the machine, in one run; never a timed test."""

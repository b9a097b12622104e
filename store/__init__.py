"""All SQL, one transaction at a time."""

"""Plans that a model writes: told, read, repaired, and run."""

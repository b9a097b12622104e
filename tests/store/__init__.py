"""The store's promises, on both databases."""

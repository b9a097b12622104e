"""The rules of the house, measured."""

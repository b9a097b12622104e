"""The command line, one file per noun; what is shown is made by pure functions."""

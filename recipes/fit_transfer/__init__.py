"""The stages of `recipes/fit_transfer.py`, one file for each."""

"""The stages of `recipes/transfer/fit.py`, one file for each."""

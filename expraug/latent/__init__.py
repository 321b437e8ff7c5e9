"""Faces as latents: the generator that draws them, its inversion, and directions of change.

`emotiongan` and `decoupled` stand on it.
"""

"""Limits on what is worked on unless the user allows more."""

MAX_PIXELS = 1 << 26
"""Most pixels of an image or of a file, 8192 x 8192."""

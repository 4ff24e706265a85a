"""How large an image may be; known without importing torch."""

MAX_PIXELS = 1 << 26
"""The most pixels that an image or a compressed file may have unless the caller allows more, 8192 x 8192."""

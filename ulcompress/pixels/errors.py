"""The error and the warning about image files."""


class ImageError(ValueError):
    """An image cannot be read, found or written; one line says which one and what would do."""


class ColourWarning(UserWarning):
    """The colours of an image were converted, or their meaning is in doubt; the image is returned all the same."""

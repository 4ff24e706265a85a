"""What is said of images that cannot be taken as they are."""


class ImageError(ValueError):
    """An image cannot be read, found or written; one line says which one and what would do."""


class ColourWarning(UserWarning):
    """Colours of an image were converted, or what is said of them cannot be understood; the pixels are there."""

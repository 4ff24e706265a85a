"""Text as single lines for people."""


def printable(text: str) -> str:
    """Write line breaks, control characters and bytes that are no letters as escapes; all else stays as it is.

    A file may have any name: one that is not UTF-8 cannot be written as text, and one with an escape sequence or a line
    break would be obeyed by a terminal or a table.
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line."""
    return printable(" ".join(str(error).split()))

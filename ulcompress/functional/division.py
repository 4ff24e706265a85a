"""Division of integers."""


def ceil_div(dividend: int, divisor: int) -> int:
    """Return the quotient of two integers, rounded up; floats would lose digits of large ones."""
    return -(-dividend // divisor)

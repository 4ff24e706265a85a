import os

import pytest

from ulcompress.functional.lines import one_line, printable


@pytest.mark.parametrize("name", ["a b.png", "日本.png", "Köln", "a|b\\c"])
def test_letters_stay(name):
    assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"caf\xe9", "caf\\udce9"), (b"a\nb", "a\\nb"), (b"\x1b[2Jx", "\\x1b[2Jx"), ("\u202egnp".encode(), "\\u202egnp")],
)
def test_what_a_terminal_would_obey_or_cannot_show_is_escaped(name, shown):
    assert printable(os.fsdecode(name)) == shown


def test_an_error_is_one_line():
    assert one_line(ValueError("first\n   second\x1b")) == "first second\\x1b"

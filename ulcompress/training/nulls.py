"""Options of the model that are given as `null` on the command line.

jsonargparse hands a nested option to the parser of its part as text, in which None is the word `None`. So these are
taken out of the command line, and set when the rest has been parsed.
"""

from collections.abc import Sequence
from typing import Any

_PREFIX = "--model."


def split_nulls(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return a command line without its options of the model that are `null`, and their keys, `codec.decoder` say."""
    rest: list[str] = []
    keys: list[str] = []
    for word in arguments:
        option, equals, value = word.partition("=")
        if option.startswith(_PREFIX) and equals and value == "null":
            keys.append(option.removeprefix(_PREFIX))
        elif word == "null" and rest and rest[-1].startswith(_PREFIX) and "=" not in rest[-1]:
            keys.append(rest.pop().removeprefix(_PREFIX))
        else:
            rest.append(word)
    return rest, keys


def set_null(model: Any, key: str) -> None:
    """Set an option of a parsed model to None.

    Args:
        model: Namespace with `class_path` and `init_args`; it is changed.
        key: Names of nested options, with dots between them and without `init_args`.

    Raises:
        ValueError: There is no such option.
    """
    node, names = model, key.split(".")
    for depth, name in enumerate(names):
        inner = node.get("init_args", node) if hasattr(node, "get") else {}
        if name not in inner:
            above = ".".join(["model", *names[:depth]])
            raise ValueError(
                f"--model.{key} is null, but {above} has no {name}; it has {', '.join(inner) or 'nothing'}"
            )
        if depth == len(names) - 1:
            inner[name] = None
        node = inner[name]

"""The command line: each of the codec's verbs is a module here; Lightning's are in `ulcompress.training.cli`.

Large libraries are imported where they are needed: `ulcompress --help` runs without torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from ulcompress import __version__
from ulcompress.commands import (
    ablate,
    caption,
    choose_seed,
    compress,
    decompress,
    demo,
    evaluate,
    export,
    import_,
    info,
    learn_captions,
    models,
    new,
    serve,
    verify,
)
from ulcompress.commands.endings import complete, interruptible
from ulcompress.commands.streams import complain, drop_unprinted, prepare
from ulcompress.functional.allocation import allocating
from ulcompress.functional.cores import threads
from ulcompress.functional.lines import one_line

VERBS = (
    compress,
    decompress,
    info,
    verify,
    models,
    import_,
    caption,
    evaluate,
    choose_seed,
    learn_captions,
    demo,
    serve,
    export,
    ablate,
    new,
)
LIGHTNING_VERBS = ("fit", "validate", "test")


def main() -> None:
    """Run the command line of the process and exit: 0 when all went well, 1 with one line on standard error."""
    prepare()
    if sys.argv[1:2] and sys.argv[1] not in LIGHTNING_VERBS:  # trainings divide the cores among their processes
        os.environ.setdefault("OMP_NUM_THREADS", str(threads()))
    try:
        sys.exit(run(sys.argv[1:]))
    finally:
        drop_unprinted()


def run(arguments: Sequence[str]) -> int:
    """Run a command line without the program's name; return the exit status.

    `--traceback` anywhere shows where an error came from instead of one line.
    """
    words = [word for word in arguments if word != "--traceback"]
    action = _lightning(words) if words and words[0] in LIGHTNING_VERBS else _verb(words)
    try:
        with allocating("this command"):
            return action()
    except (ValueError, OSError, MemoryError) as error:
        if len(words) < len(arguments):
            raise
        complain(one_line(error))
        return 1


def _lightning(words: Sequence[str]) -> Callable[[], int]:
    from ulcompress.training.cli import main as train

    return lambda: interruptible(lambda: train(list(words)))


def _verb(words: Sequence[str]) -> Callable[[], int]:
    parser = build_parser()
    options, rest = parser.parse_known_args(words)
    if rest and not hasattr(options, "words"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.words = rest
    return lambda: complete(lambda: options.action(options))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the codec's verbs; its options have `action`, the function that takes them.

    A verb with `words` among its options takes those too that its parser does not know.
    """
    parser = argparse.ArgumentParser(
        prog="ulcompress",
        description="Perceptual image compression at ultra-low bitrates.",
        epilog="Training: ulcompress fit|validate|test -c EXPERIMENT.yaml [--model.... --data.... --trainer....]; "
        "see ulcompress fit --help. --traceback shows where an error came from.",
    )
    parser.add_argument("--version", action="version", version=f"ulcompress {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb in VERBS:
        verb.add_parser(verbs)
    return parser

"""The command line: the codec's verbs, one a module here; Lightning's are in `ulcompress.training.cli`.

Nothing heavy is imported before it is needed: `ulcompress --help` answers without torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from ulcompress import __version__
from ulcompress.commands import caption, choose_seed, compress, decompress, demo, evaluate, export, info
from ulcompress.cores import threads

LIGHTNING_VERBS = ("fit", "validate", "test")


def main() -> None:
    """Run the command line of the process and exit: 0 when all went well, 1 with one line on standard error."""
    if sys.argv[1:2] and sys.argv[1] not in LIGHTNING_VERBS:  # those share the cores among their processes
        os.environ.setdefault("OMP_NUM_THREADS", str(threads()))
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line without the program's name; return the exit status.

    `--traceback` anywhere shows where an error came from instead of one line.
    """
    if "--traceback" in arguments:
        return _run([word for word in arguments if word != "--traceback"], lambda action: action() or 0)
    return _run(arguments, _one_line)


def _run(arguments: Sequence[str], guard: Callable[[Callable[[], int | None]], int]) -> int:
    if arguments and arguments[0] in LIGHTNING_VERBS:
        from ulcompress.training.cli import main as train

        return guard(lambda: train(list(arguments)))
    options = build_parser().parse_args(arguments)
    return guard(lambda: options.action(options))


def _one_line(action: Callable[[], int | None]) -> int:
    """Turn the errors that users can mend into one line; others keep their traceback."""
    try:
        return action() or 0
    except KeyboardInterrupt:
        print("ulcompress: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"ulcompress: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the codec's verbs, whose options carry `action`, a function of them."""
    parser = argparse.ArgumentParser(
        prog="ulcompress",
        description="Perceptual image compression at ultra-low bitrates.",
        epilog="Training: ulcompress fit|validate|test -c EXPERIMENT.yaml [--model.... --data.... --trainer....]; "
        "see ulcompress fit --help. --traceback shows where an error came from.",
    )
    parser.add_argument("--version", action="version", version=f"ulcompress {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb in (compress, decompress, info, caption, evaluate, choose_seed, demo, export):
        verb.add_parser(verbs)
    return parser

"""`ulcompress new`: a package with a part that works, the check of its contract, and an experiment."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from ulcompress.commands.options import Verbs
from ulcompress.commands.streams import report
from ulcompress.files import write_whole

SLOTS = (
    "autoencoder",
    "conditioner",
    "decoder",
    "denoiser",
    "distance",
    "encoder",
    "entropy_model",
    "estimate",
    "quantizer",
    "sampler",
    "schedule",
)
TEMPLATES = files("ulcompress.templates")


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("new", help="a package with a part of your own, its contract test and an experiment")
    parser.add_argument("kind", choices=["part"], help="what to write")
    parser.add_argument("slot", choices=SLOTS, metavar="SLOT", help=f"slot of the part: {', '.join(SLOTS)}")
    parser.add_argument("name", type=class_name, metavar="NAME", help="name of its class, such as MyQuantizer")
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder (default: named after the class)")
    parser.set_defaults(action=run)


def class_name(text: str) -> str:
    """Parse a name in capitalised words."""
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", text):
        raise argparse.ArgumentTypeError(f"got {text}; give capitalised words without spaces, such as MyQuantizer")
    return text


def run(options: argparse.Namespace) -> int:
    """Write the package; return the exit status."""
    package = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", options.name).lower()
    folder = options.out or Path(package.replace("_", "-"))
    if folder.exists():
        raise ValueError(f"{folder} exists; name a new folder with --out")
    for path, text in _package(options.slot, options.name, package):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / path, text.encode())
    report(f"{folder}: pip install --editable {folder}, then read {folder}/README.md")
    return 0


def _package(slot: str, name: str, package: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each file of a package, and its text."""
    sources = {
        "pyproject.toml": "package/pyproject.toml.template",
        "README.md": "package/README.md.template",
        "experiments/codec.yaml": "package/codec.yaml",
        f"experiments/{package}.yaml": f"{slot}.yaml",
        f"{package}/__init__.py": "package/__init__.py.template",
        f"{package}/{slot}.py": f"{slot}.py",
        "tests/test_contract.py": "package/test_contract.py.template",
    }
    names = {"Template": name, "template_package": package, "template_slot": slot}
    for path, source in sources.items():
        yield path, re.sub("|".join(names), lambda found: names[found[0]], TEMPLATES.joinpath(source).read_text())

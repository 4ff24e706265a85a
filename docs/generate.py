"""The pages of the site that follow from the code: API, commands and experiments; a hook of MkDocs."""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from ulcompress.commands.main import build_parser

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "experiments"
ROOMS = {
    "codec": ("The codec", ["ulcompress.codec", "ulcompress.records", "ulcompress.images", "ulcompress.part"]),
    "autoencoders": ("Autoencoders", ["ulcompress.autoencoders"]),
    "encoders": ("Encoders", ["ulcompress.encoders"]),
    "quantizers": ("Quantisers", ["ulcompress.quantizers"]),
    "entropy": ("Entropy models", ["ulcompress.entropy"]),
    "conditioning": ("Conditioning", ["ulcompress.conditioning"]),
    "decoders": ("Decoders", ["ulcompress.decoders"]),
    "denoisers": ("Denoisers", ["ulcompress.denoisers"]),
    "diffusion": ("Diffusion", ["ulcompress.diffusion"]),
    "losses": ("Losses", ["ulcompress.losses"]),
    "training": ("Training", ["ulcompress.training"]),
    "data": ("Data", ["ulcompress.data"]),
    "evaluation": ("Evaluation", ["ulcompress.evaluation"]),
    "callbacks": ("Callbacks", ["callbacks"]),
    "pretrained": ("Saved codecs", ["ulcompress.pretrained"]),
    "learned": ("Published codecs", ["ulcompress.learned"]),
    "foundation": ("Foundation models", ["ulcompress.foundation"]),
    "captioning": ("Captioning", ["ulcompress.captioning"]),
    "serving": ("The page to try it on", ["ulcompress.serving"]),
    "optimization": ("Online optimisation", ["ulcompress.optimization"]),
    "testing": ("Contract checks", ["ulcompress.testing"]),
}
"""Title and packages of each page of the API."""
USAGE_WIDTH = 100


def on_files(files, config):
    """Add the generated pages to those on the disk."""
    from mkdocs.structure.files import File

    for path, content in pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def pages() -> dict[str, str]:
    """Return the generated pages: path below `docs` to Markdown."""
    api = {f"reference/api/{name}.md": _api(*room) for name, room in ROOMS.items()}
    return {**api, "reference/commands.md": commands(), "reference/experiments.md": experiments()}


def _api(title: str, packages: list[str]) -> str:
    return "\n\n".join([f"# {title}", *(f"::: {package}" for package in packages)]) + "\n"


def commands() -> str:
    """Return the page of the verbs, with the options of their parsers."""
    (verbs,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    helps = {choice.dest: choice.help or "" for choice in verbs._choices_actions}
    sections = [_verb(name, helps[name], parser) for name, parser in verbs.choices.items()]
    return "\n\n".join([(ROOT / "docs/reference/_commands.md").read_text().rstrip(), *sections]) + "\n"


def _verb(name: str, summary: str, parser: argparse.ArgumentParser) -> str:
    parser.formatter_class = functools.partial(argparse.HelpFormatter, width=USAGE_WIDTH)
    lines = [
        f"## ulcompress {name}",
        "",
        f"{_sentence(_escaped(summary))}",
        "",
        "```text",
        parser.format_usage().strip(),
    ]
    lines += ["```", "", "| option | meaning |", "| --- | --- |"]
    return "\n".join([*lines, *(_option(parser, action) for action in parser._actions if action.dest != "help")])


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else parser._get_formatter()._format_args(action, _placeholder(action))
    names = [" ".join(filter(None, (name, value))) for name in action.option_strings] or [value]
    said = parser._get_formatter()._expand_help(action) if action.help else ""
    return f"| {', '.join(f'`{name}`' for name in names)} | {_escaped(said)} |".replace("`|`", "")


def _placeholder(action: argparse.Action) -> str:
    return action.dest.upper() if action.option_strings else action.dest


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _escaped(text: str) -> str:
    """Return text that a cell of a Markdown table shows as it is."""
    return re.sub(r"([|<*_])", r"\\\1", " ".join(text.split()))


def experiments() -> str:
    """Return the page of the experiments: the head of each file, and below it the file."""
    files = sorted(EXPERIMENTS.rglob("*.yaml"))
    text = (ROOT / "docs/reference/_experiments.md").read_text().rstrip()
    return "\n\n".join([text, *(section for path in files for section in _experiment(path))]) + "\n"


def _experiment(path: Path) -> Iterator[str]:
    head, rest = _head(path.read_text())
    yield f"## {path.relative_to(EXPERIMENTS)}"
    yield f"```text\n{head}\n```"
    yield f'??? note "The file"\n\n{_indented(_fence(rest))}'


def _head(text: str) -> tuple[str, str]:
    """Split an experiment into the text of its first comment and the rest."""
    lines = text.splitlines()
    count = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(line[1:].removeprefix(" ") for line in lines[:count]), "\n".join(lines[count:])


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())


def _fence(yaml: str) -> str:
    return f"```yaml\n{yaml.strip()}\n```"

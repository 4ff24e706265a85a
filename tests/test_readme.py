"""What the README shows is true: its Python runs, its commands exist, its tree is there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ulcompress.commands.main import build_parser, run

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def photograph(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def in_a_shell(command):
    python = f"PYTHONPATH={shlex.quote(str(ROOT))} {shlex.quote(sys.executable)} -m ulcompress"
    return subprocess.run(["bash", "-c", f"set -o pipefail; {command.replace('ulcompress', python)}"]).returncode


def test_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photograph("photo.png")
    (source,) = blocks("python")
    exec(source, {})
    with Image.open("restored.png") as restored:
        assert restored.size == (64, 48)


@pytest.mark.filterwarnings("ignore:MS-SSIM needs")
def test_codec_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    photograph("photo.jpg")
    photograph("folder/other.png")
    commands = [line.split(" #")[0].strip() for line in "".join(blocks("sh")).splitlines()]
    verbs = ("compress", "decompress", "info", "evaluate")
    commands = [c.replace("KODAK", "folder") for c in commands if not re.search(r"\.\.\.|my-codec", c)]
    ours = [c for c in commands if c.startswith(tuple(f"ulcompress {v} " for v in verbs))]
    assert len(ours) == 13
    for command in ours:
        if "|" in command:
            assert in_a_shell(command) == 0, command
            continue
        words = re.findall(r'"[^"]*"|\S+', command)[1:]
        assert run([word.strip('"') for word in words]) == 0, command
    for image in ("photo.png", "restored.png", "small.jpg"):
        with Image.open(image) as opened:
            assert opened.size == (64, 48)


def test_every_verb_is_known():
    known = set(build_parser()._subparsers._group_actions[0].choices) | {"fit", "validate", "test"}
    assert set(re.findall(r"^ulcompress ([\w-]+)", TEXT, re.M)) - {"fit|validate|test"} <= known | {""}


def test_tree_is_there():
    tree = TEXT.split("## The tree")[1].split("```")[1]
    for name in re.findall(r"^  ([\w.]+\.py) ", tree, re.M):
        assert (ROOT / "ulcompress" / name).is_file(), name
    for name in re.findall(r"(?:^|\s)([a-z]+)/(?=\s)", tree):
        assert (ROOT / name).is_dir() or (ROOT / "ulcompress" / name).is_dir(), name
    files = {path.name for path in (ROOT / "ulcompress").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert files == set(re.findall(r"^  ([\w.]+\.py) ", tree, re.M))

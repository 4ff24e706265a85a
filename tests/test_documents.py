"""What the README and the site show is true: Python runs, commands exist, links lead somewhere."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonargparse
import numpy as np
import pytest
import yaml
from PIL import Image

from ulcompress import Codec
from ulcompress.commands.main import LIGHTNING_VERBS, build_parser, run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in FILES}
RUN = ("compress", "decompress", "info", "evaluate", "models")
"""Verbs whose commands run; others need a training set, a network or much time."""
ELSEWHERE = re.compile(r"\.\.\.|my-codec|--weights DIR|experiments/|--devices")
"""What marks a command that does not run here: something that a reader brings, or further processes."""
STAND_INS = {"TRAIN": "train", "VAL": "validation", "KODAK": "folder", "DIR": "networks"}
REST = "-c experiments/mini/codec.yaml --data.train train"
"""What `...` stands for in the command of a training; in others it stands for nothing."""


def blocks(name, language):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", TEXTS[name], re.S | re.M)


def commands(name):
    """Return the commands of a document, one line each, without comments; of a job of SLURM's what it runs."""
    text = "".join(blocks(name, "sh")).replace("\\\n", " ")
    text = re.sub(r'^sbatch .*"srun (.*)"$', r"\1", text, flags=re.M)
    return [line for each in text.splitlines() if (line := re.split(r"\s+#\s", f"{each} ")[0].strip())]


def with_stand_ins(command, rest=""):
    words = re.findall(r"'[^']*'|\"[^\"]*\"|\S+", command)
    return shlex.split(" ".join({**STAND_INS, "...": rest}.get(word, word) for word in words))


def having(language):
    return [name for name in TEXTS if blocks(name, language)]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with a photograph and a folder of them, in which the reader sits."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    values = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for path in ("photo.jpg", "photo.png", "folder/other.png"):
        Image.fromarray(values).save(path)
    return tmp_path


@pytest.mark.parametrize("name", having("python"))
def test_python_runs(name, desk, one_thread, namespace):
    for number, source in enumerate(blocks(name, "python")):
        exec(compile(source, f"{name}, Python block {number}", "exec"), namespace)


def in_a_shell(command):
    python = f"PYTHONPATH={shlex.quote(str(ROOT))} {shlex.quote(sys.executable)} -m ulcompress"
    return subprocess.run(["bash", "-c", f"set -o pipefail; {command.replace('ulcompress', python)}"]).returncode


def runnable(name):
    ours = re.compile(rf"(^|\| )ulcompress ({'|'.join(RUN)})\b")
    return [command for command in commands(name) if ours.search(command) and not ELSEWHERE.search(command)]


@pytest.mark.filterwarnings("ignore:MS-SSIM needs")
@pytest.mark.parametrize("name", [name for name in TEXTS if runnable(name)])
def test_codec_commands_run(name, desk, one_thread):
    Path("photo.png").unlink()
    for command in runnable(name):
        if "|" in command:
            assert in_a_shell(command) == 0, command
        else:
            assert run(with_stand_ins(command)[1:]) == 0, command
    for image in desk.glob("*.png"):
        with Image.open(image) as opened:
            assert opened.size == (64, 48)


def test_commands_are_found():
    assert sum(len(runnable(name)) for name in TEXTS) >= 15
    assert sum(len(trainings(name)) for name in TEXTS) >= 20


def verbs_of(name):
    """Return the commands with a parser of ours, as words behind the program's name, without redirections."""
    parts = [re.split(r" [<>] ", part)[0] for command in commands(name) for part in command.split("|")]
    words = [with_stand_ins(part) for part in parts]
    return [each[1:] for each in words if each[0] == "ulcompress" and each[1] not in LIGHTNING_VERBS]


@pytest.mark.parametrize("name", having("sh"))
def test_commands_are_parsed(name):
    for words in verbs_of(name):
        _, rest = build_parser().parse_known_args(words)
        assert all(word.startswith("--data.") for word in rest[::2]), (words, rest)


def trainings(name):
    """Return the commands of trainings; those that add options to another command are put together."""
    start = re.compile(rf"(\w+=\S+ )?ulcompress ({'|'.join(LIGHTNING_VERBS)})")
    each = [command for command in commands(name) if start.match(command)]
    added = [command.removeprefix("ulcompress fit ...") for command in each if command.startswith("ulcompress fit ...")]
    whole = [command for command in each if not command.startswith("ulcompress fit ...")]
    return [*whole, f"ulcompress fit ...{''.join(added)}"] if added else whole


@pytest.mark.parametrize("command", sorted({command for name in TEXTS for command in trainings(name)}))
def test_trainings_are_parsed_and_their_codecs_built(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("STABLE_DIFFUSION", "directory")
    words = [word for word in with_stand_ins(command.partition("ulcompress ")[2], REST) if word != "--print_config"]
    with pytest.raises(SystemExit) as end:
        run([*words, "--print_config"])
    shown = capsys.readouterr()
    assert not end.value.code, (command, shown.err)
    options = yaml.safe_load(shown.out)["model"]["init_args"]
    if "codec" in options and "perco/sd" not in command:  # its parts are downloaded
        parser = jsonargparse.ArgumentParser(exit_on_error=False)
        parser.add_argument("--codec", type=Codec)
        parser.instantiate(parser.parse_object({"codec": options["codec"]}))


@pytest.mark.parametrize("name", having("yaml"))
def test_configurations_are_yaml(name):
    assert all(isinstance(yaml.safe_load(text), dict) for text in blocks(name, "yaml"))


@pytest.fixture(scope="module")
def generated():
    """The pages that the site makes from the code."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


def test_links_lead_somewhere(generated):
    for name, text in {**TEXTS, **{f"docs/{path}": text for path, text in generated.items()}}.items():
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", prose):
            path = (ROOT / name).parent / target
            made = path.resolve().is_relative_to(DOCS) and str(path.resolve().relative_to(DOCS)) in generated
            assert path.exists() or made, f"{name} links to {target}"


def test_navigation_has_every_page(generated):
    def leaves(entries):
        for entry in entries:
            (content,) = entry.values()
            yield from [content] if isinstance(content, str) else leaves(content)

    listed = list(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    written = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if not path.name.startswith("_")}
    assert sorted(listed) == sorted(written | set(generated))


def test_generated_pages_show_options_and_experiments(generated):
    commands, experiments = generated["reference/commands.md"], generated["reference/experiments.md"]
    assert "| `--skip-existing` | keep existing files and write the others |" in commands
    assert "## perco/rates/0.0019.yaml" in experiments and "Method:" in experiments


def test_every_room_has_a_page(generated):
    """A new package of parts must not be forgotten in the reference."""
    text = "".join(generated.values())
    rooms = {path.parent.name for path in (ROOT / "ulcompress").glob("*/__init__.py")}
    inner = {"coding", "commands", "functional", "pixels", "templates"}
    assert {room for room in rooms - inner if f"::: ulcompress.{room}\n" not in text} == set()


def test_the_papers_of_the_methods_are_cited_by_all_their_authors():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    page = TEXTS["docs/concepts/signal-flow.md"]
    for paper in citation["references"]:
        assert {"type", "title", "year", "conference"} <= set(paper)
        initials = [" ".join(f"{name[0]}." for name in author["given-names"].split()) for author in paper["authors"]]
        names = [author["family-names"] for author in paper["authors"]]
        cited = ", ".join(" ".join(pair) for pair in zip(initials, names, strict=True))
        assert f"{cited}, *{paper['title']}*" in " ".join(page.split())


def test_tree_is_there():
    (tree,) = re.findall(r"```\n(ulcompress/\n.*?)```", TEXTS["docs/concepts/tree.md"], re.S)
    for name in re.findall(r"^  ([\w.]+\.py) ", tree, re.M):
        assert (ROOT / "ulcompress" / name).is_file(), name
    for name in re.findall(r"(?:^|\s)([a-z]+)/(?=\s)", tree):
        assert (ROOT / name).is_dir() or (ROOT / "ulcompress" / name).is_dir(), name
    files = {path.name for path in (ROOT / "ulcompress").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert files == set(re.findall(r"^  ([\w.]+\.py) ", tree, re.M))

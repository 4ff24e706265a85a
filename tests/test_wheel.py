"""What is installed: the version, the weights, the types, and what the commands need."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ulcompress

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy, since setuptools writes beside its sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("ulcompress", "callbacks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


def test_it_holds_what_the_package_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    code = {str(path.relative_to(ROOT)) for room in ("ulcompress", "callbacks") for path in (ROOT / room).rglob("*.py")}
    data = {
        "ulcompress/py.typed",
        "ulcompress/evaluation/results/published.yaml",
        "ulcompress/evaluation/page/template.html",
        "ulcompress/serving/page/index.html",
        "ulcompress/templates/quantizer.yaml",
        "ulcompress/templates/package/codec.yaml",
        "ulcompress/weights/LICENSE",
        *(f"ulcompress/weights/{name}/{file}" for name in ("mini", "mini-cgdm") for file in CODEC),
    }
    assert code | data <= names
    assert not [name for name in names if not name.startswith(("ulcompress/", "callbacks/"))]


CODEC = ("config.yaml", "model.safetensors", "README.md")


def test_version_and_size(wheel):
    """40 MB hold the weights of the bundled codecs, 33 MB; what grows beyond that should be fetched."""
    assert wheel.name.startswith(f"ulcompress-{ulcompress.__version__}-")
    assert wheel.stat().st_size < 40e6


def test_it_works_where_it_is_unpacked(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    command = [sys.executable, "-m", "ulcompress", "new", "part", "sampler", "MySampler"]
    environment = {"PYTHONPATH": str(tmp_path / "installed"), "PATH": "/usr/bin:/bin"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "my-sampler/experiments/my_sampler.yaml").is_file()


def test_the_citation_says_no_version_of_its_own():
    assert "\nversion:" not in (ROOT / "CITATION.cff").read_text()

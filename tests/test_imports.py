import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(code, folder):
    """Run Python in another folder, so that nothing is found only because it lies in the current one."""
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def packages_after(statement, folder):
    printed = run(f"import sys\n{statement}\nprint(*sys.modules)", folder)
    return {name.partition(".")[0] for name in printed.split()}


@pytest.mark.parametrize("module", ["ulcompress", "ulcompress.commands.main", "ulcompress.commands.inspection"])
def test_light_modules_import_nothing_heavy(module, tmp_path):
    heavy = {"torch", "lightning", "diffusers", "transformers", "torchvision", "jsonargparse"}
    assert not heavy & packages_after(f"import {module}", tmp_path)


TRAINING = {"lightning", "pytorch_lightning", "wandb", "callbacks"}
NETWORKS = {"diffusers", "transformers", "compressai", "peft", "torchvision"}


@pytest.mark.parametrize(
    "statement", ["import ulcompress.codec", "ulcompress.load('mini')", "ulcompress.load('mini-cgdm')"]
)
def test_a_codec_imports_torch_and_what_its_own_parts_need(statement, tmp_path):
    packages = packages_after(f"import ulcompress\n{statement}", tmp_path)
    assert "torch" in packages
    assert not (TRAINING | NETWORKS) & packages


def test_codecs_are_built_without_the_compiler_of_torch(tmp_path):
    code = "import sys, ulcompress; print(*map(ulcompress.load, ('mini', 'mini-cgdm')), *sys.modules)"
    assert not {"torch._dynamo", "sympy", "scipy"} & set(run(code, tmp_path).split())


LAZY = [
    *("autoencoders", "encoders", "quantizers", "entropy", "conditioning", "denoisers", "decoders", "diffusion"),
    "losses",
]


@pytest.mark.parametrize("package", LAZY)
def test_packages_of_parts_export_what_their_modules_define(package):
    module = import_module(f"ulcompress.{package}")
    assert dir(module) == sorted(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_training_imports_all_parts(tmp_path):
    """A configuration names classes of imported modules without their path."""
    code = "import sys, ulcompress.training; print(*sys.modules)"
    modules = set(run(code, tmp_path).split())
    for package in LAZY:
        files = (ROOT / "ulcompress" / package).glob("[a-z]*.py")
        assert {f"ulcompress.{package}.{file.stem}" for file in files} <= modules


@pytest.mark.parametrize("package", ["ulcompress", "callbacks"])
def test_packages_are_those_of_this_repository(package, tmp_path):
    """Both names are plain top-level ones; a foreign package of the same name must not shadow them."""
    code = f"import importlib.util; print(importlib.util.find_spec({package!r}).origin)"
    assert Path(run(code, tmp_path)).parent == ROOT / package


def test_public_names():
    import ulcompress

    assert all(getattr(ulcompress, name) is not None for name in ulcompress.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ulcompress.nothing

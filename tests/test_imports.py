import subprocess
import sys
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


def test_the_codec_does_not_import_lightning(tmp_path):
    packages = packages_after("import ulcompress.codec", tmp_path)
    assert "torch" in packages
    assert not {"lightning", "pytorch_lightning", "wandb", "callbacks"} & packages


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

import shutil
from types import SimpleNamespace

import pytest
import wandb

import ulcompress
from ulcompress.pretrained import FILES, save

NAME = "wandb:us/cups/mini:v3"


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    wandb.teardown()  # W&B reads its environment once
    yield
    wandb.teardown()


@pytest.fixture
def served(tiny_codec, tmp_path, monkeypatch, credentials):
    """What W&B's client would get from its server: an artifact with a codec; the names that were asked for."""
    save(tiny_codec, tmp_path / "codec")
    asked, fetched = [], []

    def entry(file):
        def download(root):
            (tmp_path / root).mkdir(parents=True, exist_ok=True)
            fetched.append(file)
            shutil.copy(tmp_path / "codec" / file, root)

        return SimpleNamespace(ref=None, download=download)

    entries = {file: entry(file) for file in (*FILES, "../code.py")}
    artifact = SimpleNamespace(digest="0ff1ce", manifest=SimpleNamespace(entries=entries))
    monkeypatch.setattr(wandb, "Api", lambda **_: SimpleNamespace(artifact=lambda name: asked.append(name) or artifact))
    return SimpleNamespace(asked=asked, fetched=fetched, entries=entries)


def test_a_codec_is_loaded_from_an_artifact(served, tiny_codec):
    assert ulcompress.load(NAME).fingerprint == tiny_codec.fingerprint
    assert served.asked == ["us/cups/mini:v3"] and served.fetched == list(FILES)


def test_the_newest_version_is_the_default(served):
    ulcompress.load("wandb:us/cups/mini")
    assert served.asked == ["us/cups/mini:latest"]


def test_a_reference_to_a_file_elsewhere_is_refused(served):
    served.entries["config.yaml"].ref = "file:///etc/passwd"
    with pytest.raises(ValueError, match=r"cannot fetch 'us/cups/mini:v3' .* config.yaml is a reference"):
        ulcompress.load(NAME)
    assert not served.fetched


def test_without_files_or_network_one_line_says_what_to_do(served, monkeypatch):
    served.entries.pop("model.safetensors")
    with pytest.raises(ValueError, match=r"no codec 'wandb:us/cups/mini:v3': .*model.safetensors does not exist"):
        ulcompress.load(NAME)

    def unreachable(**_):
        raise wandb.Error("no route\nto host")

    monkeypatch.setattr(wandb, "Api", unreachable)
    with pytest.raises(ValueError, match=r"no route to host; with a local copy, give its directory instead$"):
        ulcompress.load(NAME)


def test_nobody_is_asked_for_a_login(tmp_path, monkeypatch):
    wandb.teardown()
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ValueError, match="you are not logged in; `wandb login`"):
        ulcompress.load(NAME)

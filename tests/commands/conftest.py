import pytest

from ulcompress.pretrained import save


@pytest.fixture
def directory(tiny_staged_codec, tmp_path):
    """Return the directory of a saved codec of two rates."""
    save(tiny_staged_codec, tmp_path / "tiny")
    return str(tmp_path / "tiny")

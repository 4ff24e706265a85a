import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ulcompress.pretrained import load
from ulcompress.serving.codecs import ServedCodecs

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def directories():
    """Codecs with random weights: with captions, with two rates as well, and with neither."""
    return {"tiny": GOLDEN / "tiny-perco", "staged": GOLDEN / "tiny-staged", "guided": GOLDEN / "tiny-cgdm"}


@pytest.fixture
def codecs(directories, one_thread):
    """Those codecs as the page offers them."""
    return ServedCodecs(directories)


@pytest.fixture
def tiny(directories, one_thread):
    """The codec that is offered as `tiny`."""
    return load(directories["tiny"])


@pytest.fixture
def photo():
    """The bytes of an image file."""
    file = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()

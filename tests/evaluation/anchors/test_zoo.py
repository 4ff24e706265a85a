import numpy as np
import pytest
import torch
from PIL import Image

from ulcompress.codec import Codec
from ulcompress.evaluation.anchors import ANCHORS, ZooAnchor, match, zoo
from ulcompress.hyperprior import CompressAIModel


@pytest.fixture
def small(monkeypatch, one_thread):
    """Small models with random weights in place of the published ones."""
    monkeypatch.setattr(
        zoo, "CompressAIModel", lambda name, quality: CompressAIModel(name=name, sizes=(4 + 2 * quality, 8))
    )
    zoo._codec.cache_clear()
    torch.manual_seed(0)
    yield
    zoo._codec.cache_clear()


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018-mean"])
def test_strings_of_the_model_are_the_file(small, name):
    anchor = ZooAnchor(name=name, highest=3)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8))
    data = anchor.encode(image, 2)
    codec = anchor.codec(2)
    assert isinstance(codec, Codec) and data == b"\x02" + codec.compress(image)
    restored = anchor.decode(data)
    assert restored.size == image.size
    assert match(anchor, image, 10**6).quality == 3


def test_every_model_has_its_qualities_and_missing_weights_are_one_line(monkeypatch):
    import compressai.zoo.image as image_zoo

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    for name in [name for name in ANCHORS if name in image_zoo.cfgs]:
        anchor = ANCHORS[name]()
        assert set(anchor.qualities) == set(image_zoo.cfgs[name])
    with pytest.raises(ValueError, match="weights"):
        ANCHORS["mbt2018-mean"]().check()

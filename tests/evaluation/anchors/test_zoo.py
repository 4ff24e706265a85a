from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from ulcompress.evaluation.anchors import ANCHORS, ZooAnchor, match
from ulcompress.evaluation.anchors.zoo import file_name
from ulcompress.evaluation.metrics import psnr
from ulcompress.images import from_pil
from ulcompress.learned.catalogue import ZOO
from ulcompress.learned.compressai import CompressAIModel, compressai

pytest.importorskip("compressai", reason="compressai does not exist for this Python")


@pytest.fixture
def zoo(tmp_path, monkeypatch, one_thread):
    """Return a function that makes an anchor of a model whose published files are small and random."""

    def make(name):
        sizes = (8,) if name.startswith("cheng") else (8, 12)
        for quality in (1, 2):
            monkeypatch.setitem(compressai().zoo.image.cfgs[name], quality, sizes)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = CompressAIModel(name=name, sizes=sizes).model()
            list(model.g_a.parameters())[-2].data.mul_(20 * quality)  # symbols other than zero
            model.update()
            torch.save(model.state_dict(), tmp_path / file_name(name, quality))
        return ZooAnchor(name=name, weights=tmp_path)

    return make


@pytest.fixture
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018-mean", "mbt2018", "cheng2020-anchor"])
def test_a_file_is_the_models_own_strings_and_a_dozen_bytes(zoo, photo, name, tmp_path):
    anchor = zoo(name)
    anchor.check()
    data = anchor.encode(photo, 2)
    model = CompressAIModel(name=name, quality=2, weights=str(tmp_path / file_name(name, 2))).model().eval()
    model.update(force=True)
    with torch.inference_mode():
        if hasattr(model, "context_prediction"):
            model.context_prediction.weight.mul_(model.context_prediction.mask)
        theirs = model.compress(from_pil(photo)[None])
        restored = model.decompress(theirs["strings"], theirs["shape"])["x_hat"][0]
    strings = sum(len(string) for (string,) in theirs["strings"])
    assert strings > 100 and strings + 5 < len(data) <= strings + 12
    assert (from_pil(anchor.decode(data)) - restored.clamp(0, 1)).abs().max() <= 0.51 / 255


def test_any_size_goes_and_a_match_takes_the_best_quality_that_fits(zoo, photo):
    anchor = zoo("mbt2018-mean")
    anchor.qualities = (1, 2)
    odd = photo.crop((0, 0, 75, 50))
    sizes = [len(anchor.encode(odd, quality)) for quality in (1, 2)]
    assert sizes[0] < sizes[1]
    found = match(anchor, odd, sizes[1])
    assert (found.quality, found.factor, len(found.data)) == (2, 1, sizes[1])
    poor = anchor.decode(anchor.encode(odd, 1))
    for budget in (sizes[0], sizes[1] - 1):
        found = match(anchor, odd, budget)
        assert found.fits and psnr(from_pil(found.restored), from_pil(odd)) >= psnr(from_pil(poor), from_pil(odd))
        assert found.restored.size == odd.size and found.restored.mode == "RGB"
    assert match(anchor, odd, sizes[0] - 1).factor > 1


def test_a_model_is_loaded_before_the_time_of_an_image_and_once(zoo, photo, monkeypatch):
    anchor, loads, load = zoo("bmshj2018-factorized"), [], torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **options: loads.append(args) or load(*args, **options))
    anchor.prepare(1)
    before = len(loads)
    assert before > 0
    anchor.decode(anchor.encode(photo, 1))
    assert len(loads) == before


def test_qualities_are_those_that_are_published():
    published = compressai().zoo.image.model_urls
    assert {name: max(of_model["mse"]) for name, of_model in published.items()} == ZOO
    for name, highest in ZOO.items():
        assert list(ANCHORS[name]().qualities) == sorted(published[name]["mse"]) == list(range(1, highest + 1))


def test_without_weights_one_line_tells_which_file_is_wanted(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise URLError("no route\nto host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    for anchor in (ZooAnchor(name="mbt2018-mean"), ZooAnchor(name="mbt2018-mean", weights=tmp_path)):
        with pytest.raises(ValueError, match=file_name("mbt2018-mean", 1)) as error:
            anchor.check()
        assert "\n" not in str(error.value)


def test_the_version_of_compressai_is_part_of_what_is_known(monkeypatch):
    before = ZooAnchor(name="mbt2018").identity
    monkeypatch.setattr("ulcompress.evaluation.anchors.zoo.version", lambda _: "0")
    assert ZooAnchor(name="mbt2018").identity != before

import copy
from pathlib import Path

import pytest
import torch

from ulcompress.part import Part
from ulcompress.pretrained import build
from ulcompress.quantizers import FiniteScalarQuantizer


class Leaf(Part):
    """A part that takes anything."""

    def __init__(self, value=None, *, size=3):
        super().__init__()
        self.linear = torch.nn.Linear(size, 1)


def test_arguments_include_defaults_however_they_are_given():
    assert Leaf().arguments() == {"value": None, "size": 3}
    assert Leaf(7).arguments() == Leaf(value=7).arguments() == {"value": 7, "size": 3}
    assert Leaf(size=5).arguments() == {"value": None, "size": 5}


def test_parts_within_lists_and_dictionaries_become_configurations():
    arguments = Leaf({"a": [Leaf(1), Path("x/y")], "b": (1, True, 0.5, "c")}).arguments()
    inner = {"class_path": Leaf.path(), "init_args": {"value": 1, "size": 3}}
    assert arguments["value"] == {"a": [inner, "x/y"], "b": [1, True, 0.5, "c"]}


def test_class_path_names_the_package():
    config = FiniteScalarQuantizer(levels=(3, 2), channels=4).config()
    assert config["class_path"] == "ulcompress.quantizers.FiniteScalarQuantizer"
    assert config["init_args"] == {"levels": [3, 2], "channels": 4, "entropy": None}


@pytest.mark.parametrize("value", [torch.zeros(1), object(), [print], {"a": {1, 2}}])
def test_arguments_that_cannot_be_saved_are_refused(value):
    part = Leaf(value)
    with pytest.raises(ValueError, match=r"argument 'value' is a \w+, which cannot be saved"):
        part.arguments()


def test_unknown_arguments_are_refused_at_the_call():
    with pytest.raises(TypeError, match="width"):
        Leaf(width=3)


def test_build_returns_an_equal_codec(tiny_codec):
    again = build(tiny_codec.arguments())
    assert again.arguments() == tiny_codec.arguments()
    again.load_state_dict(tiny_codec.state_dict())
    assert again.eval().fingerprint == tiny_codec.fingerprint


def test_a_deep_copy_is_equal_and_independent(tiny_codec):
    other = copy.deepcopy(tiny_codec)
    assert other.arguments() == tiny_codec.arguments()
    before = {name: value.clone() for name, value in tiny_codec.state_dict().items()}
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in tiny_codec.state_dict().items())
    assert other._arguments["decoder"] is other.decoder

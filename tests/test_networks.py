import base64
import importlib.util
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch.nn import functional as F

from ulcompress.losses.layers import LayerNetwork, Layers

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SHAPES = {
    "first/kernel": (3, 3, 3, 4),
    "norm/gamma": (4,),
    "norm/beta": (4,),
    "norm/moving_mean": (4,),
    "norm/moving_variance": (4,),
    "second/depthwise_kernel": (3, 3, 4, 1),
}
LAYERS = """
    {name:"in",class_name:"InputLayer",config:{},inbound_nodes:[]},
    {name:"pad",class_name:"ZeroPadding2D",config:{padding:[[0,1],[1,0]]},inbound_nodes:[[["in",0,0,{}]]]},
    {name:"first",class_name:"Conv2D",config:{strides:[2,2],padding:"valid",use_bias:!1},inbound_nodes:[[["pad",0,0,{}]]]},
    {name:"norm",class_name:"BatchNormalization",config:{epsilon:.001},inbound_nodes:[[["first",0,0,{}]]]},
    {name:"clipped",class_name:"ReLU",config:{max_value:1},inbound_nodes:[[["norm",0,0,{}]]]},
    {name:"smaller",class_name:"MaxPooling2D",config:{strides:[2,2]},inbound_nodes:[[["clipped",0,0,{}]]]},
    {name:"second",class_name:"DepthwiseConv2D",config:{strides:[1,1],padding:"same"},inbound_nodes:[[["smaller",0,0,{}]]]},
    {name:"sum",class_name:"Add",config:{trainable:!0},inbound_nodes:[[["second",0,0,{}],["smaller",0,0,{}]]]},
    {name:"mean",class_name:"AveragePooling2D",config:{strides:[1,1]},inbound_nodes:[[["sum",0,0,{}]]]},
    {name:"both",class_name:"Concatenate",config:{axis:3},inbound_nodes:[[["mean",0,0,{}],["smaller",0,0,{}]]]},
    {name:"pooled",class_name:"AveragePooling2D",config:{strides:[1,1]},inbound_nodes:[[["both",0,0,{}]]]},
    {name:"flat",class_name:"Flatten",config:{},inbound_nodes:[[["pooled",0,0,{}]]]}
"""
SCALE, LEAST = 0.01, -0.5


@pytest.fixture
def networks():
    spec = importlib.util.spec_from_file_location("networks", EXPERIMENTS / "networks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def codes():
    generator = np.random.default_rng(0)
    codes = {name: generator.integers(256, size=shape, dtype=np.uint8) for name, shape in SHAPES.items()}
    return codes | {"norm/moving_variance": np.array([90, 130, 200, 255], np.uint8)}  # at least 0.4


@pytest.fixture
def folder(codes, tmp_path):
    """A model as a package of scripts has it: minified literals, weights of 8 bits in two strings."""
    entries = [
        f'{{name:"{name}",shape:[{",".join(map(str, shape))}],quantization:{{min:-.5,scale:.01,dtype:"uint8"}}}}'
        for name, shape in SHAPES.items()
    ]
    layers = re.sub(r"\s", "", LAYERS)
    topology = f"{{model_config:{{config:{{layers:[{layers}]}}}}}}"
    literal = f"{{modelTopology:{topology},weightsManifest:[{{weights:[{','.join(entries)}]}}]}}"
    (tmp_path / "model.min.js").write_text(
        f"!function(e){{}}({{1:[function(e,a,n){{a.exports={literal}}},{{}}]}},{{}},[1])(1)"
    )
    data = b"".join(each.tobytes() for each in codes.values())
    for number, part in enumerate((data[:100], data[100:]), 1):
        text = base64.b64encode(part).decode()
        script = f'({{1:[function(e,h,n){{h.exports="{text}"}},{{}}]}})'
        (tmp_path / f"group1-shard{number}of2.min.js").write_text(script)
    return tmp_path


@pytest.fixture
def converted(networks, folder, tmp_path):
    """Return a function that converts the model and reads it back."""

    def convert(border=0):
        layers = Layers()
        layers.save(tmp_path / "net.safetensors", networks.keras_layers(folder, layers, border))
        return LayerNetwork(tmp_path / "net.safetensors")

    return convert


def test_layers_of_keras_give_the_last_map_of_each_resolution(converted, codes):
    images = torch.rand(2, 3, 37, 44, generator=torch.Generator().manual_seed(0))
    weights = {name: torch.from_numpy(each * SCALE + LEAST).float() for name, each in codes.items()}

    clipped, both = converted()(images)

    hidden = F.conv2d(F.pad(images * 2 - 1, (1, 0, 0, 1)), weights["first/kernel"].permute(3, 2, 0, 1), stride=2)
    norm = (weights[f"norm/{part}"] for part in ("moving_mean", "moving_variance", "gamma", "beta"))
    expected = F.batch_norm(hidden, *norm, eps=0.001).clamp(0, 1)
    assert 0.1 < expected.mean() < 0.9
    torch.testing.assert_close(clipped, expected)
    smaller = F.max_pool2d(expected, 3, 2)
    depthwise = weights["second/depthwise_kernel"].permute(2, 3, 0, 1)
    total = F.conv2d(smaller, depthwise, padding=1, groups=4) + smaller
    count = F.avg_pool2d(torch.ones_like(total), 3, 1, padding=1)
    mean = F.avg_pool2d(total, 3, 1, padding=1) / count  # of those inside the image alone
    torch.testing.assert_close(both, torch.cat([mean, smaller], 1).relu())


def test_a_border_repeats_the_edge(converted):
    images = torch.rand(1, 3, 20, 24)
    bordered = converted(border=8)(images)
    for one, other in zip(bordered, converted()(F.pad(images, (8,) * 4, mode="replicate")), strict=True):
        assert torch.equal(one, other)


def test_layers_of_flax_are_those_of_torchvision(networks, tmp_path):
    features = torchvision.models.alexnet().features
    layers = [layer for layer in features if isinstance(layer, torch.nn.Conv2d)]
    pickled = {
        f"Conv_{number}": {
            "kernel": layer.weight.detach().permute(2, 3, 1, 0).numpy(),
            "bias": layer.bias.detach().numpy(),
        }
        for number, layer in enumerate(layers)
    }
    (tmp_path / "alexnet.ckpt").write_bytes(pickle.dumps({"AlexNet_0": pickled, "NetLinLayer_0": {}}))
    state = networks.flax_layers(tmp_path / "alexnet.ckpt", "alexnet")
    expected = {f"features.{name}": value for name, value in features.state_dict().items()}
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_a_pickle_of_anything_but_arrays_is_refused(networks, tmp_path):
    (tmp_path / "alexnet.ckpt").write_bytes(pickle.dumps({"AlexNet_0": print}))
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print is not a part of an array"):
        networks.flax_layers(tmp_path / "alexnet.ckpt", "alexnet")


def test_a_missing_package_is_told(networks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["networks.py", "mobilenet-v2", "out"])
    with pytest.raises(SystemExit):
        networks.main()
    assert "no package/dist/models/mobilenet_v2 here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchmetrics.functional.image.lpips as reference
import torchvision
from safetensors.torch import load_file

from ulcompress.losses import LPIPS
from ulcompress.losses.lpips import BACKBONES


@pytest.mark.parametrize("net", BACKBONES)
@torch.no_grad()
def test_equals_torchmetrics_with_the_same_backbone(net, random_backbone, one_thread, monkeypatch):
    """torchmetrics cuts its slices out of the backbone that holds these weights; only its download is replaced."""
    file = random_backbone(BACKBONES[net])
    with torch.device("meta"):
        features = getattr(torchvision.models, BACKBONES[net])().features
    state = {name.removeprefix("features."): value for name, value in load_file(file).items()}
    features.load_state_dict(state, assign=True)
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda net, pretrained=False: features.requires_grad_())
    pair = torch.rand(2, 2, 3, 64, 80)
    expected = reference.learned_perceptual_image_patch_similarity(
        *pair, net_type=net, reduction="none", normalize=True
    )
    monkeypatch.undo()
    ours = LPIPS(net=net, weights=file)
    assert torch.equal(ours(*pair), expected)
    _every_weight_arrived(ours, state)


def _every_weight_arrived(distance, state):
    """All parameters of the network are those of the file, each once; the weights of channels are torchmetrics'."""
    backbone = dict(distance.network.net.named_parameters())
    assert len(backbone) == len(state)
    for name, value in backbone.items():
        # "slice2.5.weight" and "slices.1.4.squeeze.weight" begin with the slice.
        key = ".".join(name.split(".")[2 if name.startswith("slices.") else 1 :])
        assert torch.equal(value, state.pop(key)), name
    assert not state
    file = Path(reference.__file__).parent / "lpips_models" / f"{distance.name.removeprefix('lpips-')}.pth"
    heads = torch.load(file, weights_only=True, map_location="cpu")
    learned = distance.network.state_dict()
    assert len(heads) == len(distance.network.lins)
    assert all(torch.equal(learned[name], value) for name, value in heads.items())


def test_unknown_net_is_refused():
    with pytest.raises(ValueError, match="net 'resnet' is unknown; choose one of vgg, alex, squeeze"):
        LPIPS(net="resnet")


def test_another_backbones_file_is_refused(random_backbone):
    with pytest.raises(ValueError, match="does not hold the weights of torchvision's squeezenet1_1") as error:
        LPIPS(net="squeeze", weights=random_backbone("alexnet"))
    assert "\n" not in str(error.value)


def test_torchvision_and_torchmetrics_are_not_imported_early():
    code = "import sys, ulcompress.losses; print({'torchvision', 'torchmetrics'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"

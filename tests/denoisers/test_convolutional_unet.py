import pytest
import torch
from diffusers import UNet2DConditionModel

from ulcompress.denoisers import UNet
from ulcompress.denoisers.convolutional_unet import ConvolutionalUNet


def both(widths=(16, 32, 48), layers=1, syntax_channels=None):
    """Return diffusers' network and ours with the same seed."""
    torch.manual_seed(0)
    attended = len(widths) - 1
    reference = UNet2DConditionModel(
        in_channels=7,
        out_channels=4,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * attended,
        up_block_types=("CrossAttnUpBlock2D",) * attended + ("UpBlock2D",),
        block_out_channels=widths,
        attention_head_dim=tuple(width // 8 for width in widths),
        mid_block_type="UNetMidBlock2D",
        only_cross_attention=True,
        layers_per_block=layers,
        cross_attention_dim=6,
        time_cond_proj_dim=syntax_channels,
        norm_num_groups=16,
    )
    torch.manual_seed(0)
    network = ConvolutionalUNet(
        in_channels=7,
        out_channels=4,
        text_channels=6,
        syntax_channels=syntax_channels,
        widths=widths,
        layers=layers,
        head_channels=8,
    )
    return reference, network


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    return {
        "x": torch.randn(2, 7, 10, 6),
        "times": torch.tensor([999, 3]),
        "text": torch.randn(2, 3, 6),
        "mask": mask,
        "syntax": None,
    }


def predicted_by(reference, inputs):
    return reference(
        inputs["x"],
        inputs["times"],
        timestep_cond=inputs["syntax"],
        encoder_hidden_states=inputs["text"],
        encoder_attention_mask=inputs["mask"],
        attention_mask=inputs["mask"],
    ).sample


@pytest.mark.parametrize(
    "options", [{}, {"layers": 2, "widths": (16, 112)}, {"widths": (32,)}, {"syntax_channels": 5}], ids=str
)
def test_names_initial_values_and_results_are_those_of_diffusers(options, inputs, one_thread):
    reference, network = both(**options)
    theirs, ours = reference.state_dict(), network.state_dict()
    assert [*ours] == [*theirs] and [*dict(network.named_parameters())] == [*dict(reference.named_parameters())]
    assert all(ours[name].equal(theirs[name]) for name in ours)
    if "syntax_channels" in options:
        inputs["syntax"] = torch.randn(2, 5)
    torch.testing.assert_close(network(**inputs), predicted_by(reference, inputs), rtol=0, atol=0)
    inputs["mask"] = None
    torch.testing.assert_close(network(**inputs), predicted_by(reference, inputs), rtol=0, atol=0)


def test_checkpointed_activations_give_the_same_gradients(inputs, one_thread):
    _, network = both()
    gradients = []
    for _ in range(2):
        network.zero_grad()
        network(**inputs).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
        network.checkpoint_activations()
    assert all(first.equal(second) for first, second in zip(*gradients, strict=True))


@pytest.mark.parametrize("widths", [(24, 32), (16, 16)])
def test_widths_that_cannot_be_used_are_refused(widths):
    with pytest.raises(ValueError, match=r"multiples of 16 .* at least head_channels=32; got \["):
        UNet(widths=widths)

import pytest
import torch

from ulcompress.denoisers import ConsistencyEncoder, GuidedUNet
from ulcompress.denoisers.attention import MapAttention
from ulcompress.denoisers.residual_block import ChannelNorm, ResidualBlock
from ulcompress.records import Condition


@pytest.mark.parametrize("patch_size", [1, 2, 4])
@pytest.mark.parametrize("levels", [1, 3])
def test_features_and_prediction_have_their_grids(one_thread, patch_size, levels):
    sizes = {"widths": [8, 12, 16][:levels], "patch_size": patch_size}
    network = GuidedUNet(**sizes, syntax_channels=3, consistency=ConsistencyEncoder(**sizes))
    assert network.multiple == patch_size * 2 ** (levels - 1)
    height, width = network.multiple, 3 * network.multiple
    images = torch.randn(2, 3, height, width)
    condition = Condition(estimate=images, syntax=torch.randn(2, 3))
    features = network.context(condition)
    strides = [patch_size * 2**level for level in range(levels)]
    assert [f.shape for f in features] == [
        (2, channels, height // stride, width // stride)
        for channels, stride in zip(sizes["widths"], strides, strict=True)
    ]
    prediction = network(images, torch.tensor([0, 999]), condition, features)
    assert prediction.shape == images.shape
    assert not prediction.any(), "the last layer starts at zero"


def awake(**options):
    torch.manual_seed(0)
    network = GuidedUNet(widths=(8, 8), patch_size=2, blocks=1, fusion="static", **options)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network


@torch.no_grad()
def test_without_attention_what_is_far_changes_nothing(one_thread):
    images = torch.randn(1, 3, 8, 128)
    changed = images.clone()
    changed[..., 0] += 5
    for attention in (False, True):
        network = awake(attention=attention)
        one, other = (network(each, torch.tensor([500]), Condition(estimate=each)) for each in (images, changed))
        assert not torch.equal(one[..., :4], other[..., :4])
        assert torch.equal(one[..., -32:], other[..., -32:]) != attention


@torch.no_grad()
def test_time_text_and_mask_change_the_prediction(one_thread):
    network = awake(text_channels=6)
    images, text = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 6)

    def predict(time=500, **given):
        return network(images, torch.tensor([time]), Condition(estimate=images, **given))

    masked = predict(text=text, text_mask=torch.tensor([[True, True, False]]))
    torch.testing.assert_close(masked, predict(text=text[:, :2]))
    assert torch.equal(predict(), predict(text=torch.zeros(1, 1, 6)))
    for different in (predict(), predict(text=text), predict(400, text=text[:, :2])):
        assert not torch.allclose(different, masked, atol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fusion": "sum"}, "one of syntax, gain, static, concatenate, got 'sum'"),
        ({"syntax_channels": None}, "'syntax' needs syntax_channels"),
        ({"syntax_channels": None, "fusion": "gain"}, "'gain' needs syntax_channels"),
        ({"text_channels": 8, "attention": False}, "text enters by attention"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GuidedUNet(widths=(8, 8), **options)


def test_the_norm_of_a_position_is_its_own(one_thread):
    norm, x = ChannelNorm(16, affine=False), 3 * torch.randn(2, 16, 5, 7) + 1
    variance, mean = torch.var_mean(norm(x), 1, correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
    torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-4, rtol=0)
    torch.testing.assert_close(norm(x)[..., 1:3, 2:5], norm(x[..., 1:3, 2:5]))


def test_blocks_keep_the_memory_format(one_thread):
    x, time = torch.randn(2, 8, 4, 6).contiguous(memory_format=torch.channels_last), torch.randn(2, 10)
    assert ResidualBlock(8, time_channels=10)(x, time).is_contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def test_attention_to_one_token_adds_the_same_everywhere(one_thread):
    x = torch.randn(2, 8, 3, 5)
    added = MapAttention(8, text_channels=4)(x, torch.randn(2, 1, 4)) - x
    torch.testing.assert_close(added, added[..., :1, :1].expand_as(added), atol=1e-5, rtol=0)
    assert not torch.allclose(added[0], added[1])

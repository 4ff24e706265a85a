import inspect

import pytest
import torch

from ulcompress import encoders
from ulcompress.encoders import (
    AnalysisTransform,
    BlockEncoder,
    ColourEncoder,
    ConcatenatedEncoder,
    CosineEncoder,
    Encoder,
    HyperEncoder,
)
from ulcompress.learned.compressai import CompressAIModel
from ulcompress.testing import check_encoder


def cosine(stride):
    """One whose network has a say."""
    encoder = CosineEncoder(network=HyperEncoder(stride=stride, width=16, channels=16))
    torch.nn.init.ones_(encoder.gain)
    return encoder


def block(stride):
    """One whose network has a say."""
    encoder = BlockEncoder(network=HyperEncoder(stride=stride, width=16, channels=4 * (stride // 8) ** 2))
    torch.nn.init.ones_(encoder.gain)
    return encoder


def concatenated(stride):
    """Blocks of the latent and cosines of the image, both with networks that have a say."""
    return ConcatenatedEncoder(first=block(stride), second=cosine(stride), factor=2.0)


MAKERS = {
    BlockEncoder: block,
    ColourEncoder: lambda stride: ColourEncoder(stride=stride),
    ConcatenatedEncoder: concatenated,
    CosineEncoder: cosine,
    AnalysisTransform: lambda stride: AnalysisTransform(model=CompressAIModel(sizes=(8, 12))),
    HyperEncoder: lambda stride: HyperEncoder(stride=stride, width=16, channels=16),
}
STRIDES = {
    AnalysisTransform: [16],
    BlockEncoder: [16, 32],
    ColourEncoder: [8, 16],
    ConcatenatedEncoder: [16],
    CosineEncoder: [8, 32],
    HyperEncoder: [8, 16, 32, 64],
}
PARAMETERS = {8: 4_080_128, 16: 4_964_864, 32: 5_849_600, 64: 5_868_032}


def inputs(rows, columns):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, rows, columns, generator=generator)
    return image, torch.randn(2, 4, rows // 8, columns // 8, generator=generator)


def test_every_class_is_here():
    exported = (getattr(encoders, name) for name in encoders.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, Encoder)}
    assert {c for c in classes if not inspect.isabstract(c)} == set(MAKERS)


@pytest.mark.parametrize("cls, stride", [(cls, stride) for cls in MAKERS for stride in STRIDES[cls]])
def test_it_keeps_the_contract(one_thread, cls, stride):
    torch.manual_seed(0)
    encoder = MAKERS[cls](stride)
    assert encoder.stride == stride
    check_encoder(encoder)


@pytest.mark.parametrize("stride, count", PARAMETERS.items())
def test_default_sizes_are_those_of_the_paper(stride, count):
    with torch.device("meta"):
        encoder = HyperEncoder(stride=stride)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == count


@pytest.mark.parametrize("stride", [4, 12, 24, 128])
def test_a_stride_that_cannot_be_reached_is_refused(stride):
    with pytest.raises(ValueError, match=rf"one of \[8, 16, 32, 64\] over a latent of stride 8, got {stride}"):
        HyperEncoder(stride=stride)


@torch.no_grad()
@pytest.mark.parametrize("stride", STRIDES[HyperEncoder])
def test_a_hyper_encoder_looks_at_pixels_where_asked_to(one_thread, stride):
    torch.manual_seed(0)
    image, latent = inputs(64, 128)
    for pixels in (False, True):
        encoder = HyperEncoder(stride=stride, width=16, channels=16, pixels=pixels)
        features, other = encoder(image, latent), encoder(image.flip(0), latent)
        assert features.shape == (2, 16, 64 // stride, 128 // stride)
        assert torch.equal(features, other) != pixels
        assert not torch.equal(encoder(image, latent.flip(0)), features)


@torch.no_grad()
def test_cosines_are_all_there_is_until_the_network_is_trained(one_thread):
    torch.manual_seed(0)
    image, latent = inputs(16, 32)
    encoder = CosineEncoder(network=HyperEncoder(stride=8, width=16, channels=192))
    features = encoder(image, latent)
    assert (encoder.latent_channels, encoder.latent_stride) == (4, 8)
    # Orthonormal and complete: as far from one another as the images, in units of 4.
    distance = (features[0] - features[1]).square().sum() * 4**2
    torch.testing.assert_close(distance, (image[0] - image[1]).square().sum())
    encoder.gain.fill_(1.0)
    assert not torch.equal(encoder(image, latent), features)


@pytest.mark.parametrize(
    "network, message",
    [
        (AnalysisTransform(model=CompressAIModel(sizes=(8, 12))), "must state the channels and the stride"),
        (HyperEncoder(stride=16, width=16, channels=20), "2 x 2 latents of 4 channels has 16 coefficients"),
    ],
)
def test_a_network_that_gives_no_blocks_of_the_latent_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        BlockEncoder(network=network)


@torch.no_grad()
def test_the_channels_of_two_encoders_stand_side_by_side(one_thread):
    torch.manual_seed(0)
    image, latent = inputs(32, 48)
    first, second = block(16), cosine(16)
    encoder = ConcatenatedEncoder(first=first, second=second, factor=3.0)
    features = encoder(image, latent)
    assert (encoder.stride, encoder.channels) == (16, 32)
    assert (encoder.latent_channels, encoder.latent_stride) == (4, 8)
    assert torch.equal(features[:, :16], first(image, latent))
    assert torch.equal(features[:, 16:], 3 * second(image, latent))


def test_an_encoder_without_a_wish_for_its_latent_leaves_that_to_the_other():
    analysis = AnalysisTransform(model=CompressAIModel(sizes=(8, 12)))
    for first, second in ((analysis, block(16)), (block(16), analysis)):
        encoder = ConcatenatedEncoder(first=first, second=second)
        assert (encoder.latent_channels, encoder.latent_stride) == (4, 8)


@pytest.mark.parametrize(
    "second, factor, message",
    [
        (HyperEncoder(stride=32, width=16, channels=8), 1.0, "must have one stride, got 16 and 32"),
        (HyperEncoder(stride=16, width=16, channels=8, latent_channels=6), 1.0, "must expect one latent.* 4 and 6"),
        (HyperEncoder(stride=16, width=16, channels=8), 0.0, "the factor must be positive, got 0.0"),
    ],
)
def test_encoders_that_do_not_go_together_are_refused(second, factor, message):
    with pytest.raises(ValueError, match=message):
        ConcatenatedEncoder(first=block(16), second=second, factor=factor)


def test_colours_are_as_far_from_one_another_as_the_means_of_blocks(one_thread):
    image, latent = inputs(32, 48)
    means = torch.nn.functional.avg_pool2d(image, 16)
    features = ColourEncoder(stride=16)(image, latent)
    distance = (features[0] - features[1]).square().sum()
    torch.testing.assert_close(distance, (means[0] - means[1]).square().sum())
    grey = ColourEncoder(stride=16)(image.mean(1, keepdim=True).expand(-1, 3, -1, -1), latent)
    torch.testing.assert_close(grey[:, 1:], torch.zeros(2, 2, 2, 3))
    more = ColourEncoder(stride=16, chroma=2.0)(image, latent)
    torch.testing.assert_close(more, features * torch.tensor([1.0, 2.0, 2.0])[:, None, None])


@pytest.mark.parametrize("options", [{"stride": 0}, {"chroma": 0.0}])
def test_colours_without_blocks_or_chroma_are_refused(options):
    with pytest.raises(ValueError, match="stride and chroma must be positive"):
        ColourEncoder(**options)

"""What tests of several packages share."""

import pytest
import torch

from ulcompress import Codec
from ulcompress.autoencoders import KLAutoencoder
from ulcompress.conditioning import BytePairs, SpatialFeatures, TextCoder, TextPrompt, TokenTransformer
from ulcompress.decoders import LatentDiffusionDecoder
from ulcompress.decoders.unet import UNet
from ulcompress.encoders import HyperEncoder
from ulcompress.quantizers import VectorQuantizer

CAPTIONS = ["a red cup on a table", "a red car in a street", "a cat on a red chair", "two cups on a chair"]


@pytest.fixture
def one_thread():
    """Tiny networks lose more than they gain by a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny_codec(one_thread) -> Codec:
    """A complete codec with random weights, spatial and text condition, stride 16; the same in every test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = TextPrompt(
            coder=TextCoder(vocabulary=BytePairs(vocabulary_size=300), max_tokens=8),
            encoder=TokenTransformer(vocabulary_size=300, max_tokens=8, channels=16, layers=1, heads=2),
        )
        codec = Codec(
            autoencoder=KLAutoencoder(widths=(8, 8)),
            encoder=HyperEncoder(stride=16, width=8, channels=8),
            quantizer=VectorQuantizer(codebook_size=16, channels=8, dimension=4),
            conditioning={"text": text, "spatial": SpatialFeatures()},
            decoder=LatentDiffusionDecoder(
                denoiser=UNet(spatial_channels=8, text_channels=16, widths=(32, 32), head_channels=8), steps=2
            ),
        )
    codec.prepare(CAPTIONS)
    return codec.eval()

import pytest
import torch
from diffusers.models.autoencoders.vae import Decoder

from ulcompress.autoencoders.convolutional_decoder import ConvolutionalDecoder


@pytest.mark.parametrize("widths, layers", [((8, 16, 24), 1), ((8, 8), 2), ((16,), 1)])
def test_it_is_the_decoder_of_latent_diffusion_without_attention(widths, layers, one_thread):
    torch.manual_seed(0)
    reference = Decoder(
        in_channels=4,
        out_channels=6,
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=layers,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    network = ConvolutionalDecoder(in_channels=4, out_channels=6, widths=widths, layers=layers)
    network.load_state_dict(reference.state_dict())
    latent = torch.randn(2, 4, 5, 3)
    torch.testing.assert_close(network(latent), reference(latent))

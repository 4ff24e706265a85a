"""The networks of two learned codecs with a hyperprior.

Sources: Ballé et al., Variational Image Compression with a Scale Hyperprior, ICLR 2018, figure 4; Minnen, Ballé and
Toderici, Joint Autoregressive and Hierarchical Priors for Learned Image Compression, NeurIPS 2018, without the context
model.
"""

from torch import nn

from ulcompress.entropy.density import EntropyBottleneck
from ulcompress.learned.divisive_normalization import DivisiveNormalization


class HyperpriorNetworks(nn.Module):
    """Analysis g_a, synthesis g_s, hyper-analysis h_a, hyper-synthesis h_s, and the density of the hyper-latent.

    Names are those of CompressAI's models, whose weights fit.
    """

    def __init__(self, hidden: int, latent: int, *, means: bool):
        """Choose the channels of the hidden layers and of the latent, and whether means are predicted beside scales."""
        super().__init__()
        self.entropy_bottleneck = EntropyBottleneck(hidden)
        self.g_a = _analysis(3, hidden, latent)
        self.g_s = _synthesis(latent, hidden, 3)
        self.h_a = _hyper_analysis(latent, hidden, nn.LeakyReLU if means else nn.ReLU)
        self.h_s = _means_and_scales(hidden, latent) if means else _scales(hidden, latent)


def _analysis(image: int, hidden: int, latent: int) -> nn.Sequential:
    layers = [_down(image, hidden)]
    for outputs in (hidden, hidden, latent):
        layers += [DivisiveNormalization(hidden), _down(hidden, outputs)]
    return nn.Sequential(*layers)


def _synthesis(latent: int, hidden: int, image: int) -> nn.Sequential:
    layers = [_up(latent, hidden)]
    for outputs in (hidden, hidden, image):
        layers += [DivisiveNormalization(hidden, inverse=True), _up(hidden, outputs)]
    return nn.Sequential(*layers)


def _hyper_analysis(latent: int, hidden: int, activation: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        _same(latent, hidden), activation(), _down(hidden, hidden), activation(), _down(hidden, hidden)
    )


def _scales(hidden: int, latent: int) -> nn.Sequential:
    return nn.Sequential(
        _up(hidden, hidden), nn.ReLU(), _up(hidden, hidden), nn.ReLU(), _same(hidden, latent), nn.ReLU()
    )


def _means_and_scales(hidden: int, latent: int) -> nn.Sequential:
    middle = latent * 3 // 2
    return nn.Sequential(
        _up(hidden, latent), nn.LeakyReLU(), _up(latent, middle), nn.LeakyReLU(), _same(middle, 2 * latent)
    )


def _same(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _down(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 5, stride=2, padding=2)


def _up(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)

"""A decoder: from a condition to a latent."""

from torch import Tensor, nn

from ulcompress.decoders import Decoder
from ulcompress.part import loadable
from ulcompress.records import Condition, Denoised, Sampling


@loadable()
class Template(Decoder):
    """Predicts the mean of the latents that fit the features, without diffusion."""

    requires = frozenset({"spatial"})
    accepts = requires
    loss_terms = frozenset({"distortion"})

    def __init__(self, *, spatial_channels: int = 32, channels: int = 16, feature_stride: int = 16, stride: int = 8):
        """Build the network.

        Args:
            spatial_channels: Channels of the features.
            channels: Channels of the latent.
            feature_stride: Pixels a feature position, along each side; a multiple of `stride`.
            stride: Pixels a latent position, along each side.
        """
        super().__init__()
        self.channels = channels
        self.condition_channels = {"spatial": spatial_channels}
        self.feature_stride = feature_stride
        self.target_stride = stride
        scale = feature_stride // stride
        self.network = nn.Sequential(
            nn.Conv2d(spatial_channels, 64, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, channels * scale**2, 1),
            nn.PixelShuffle(scale),
        )

    def loss(self, target: Tensor, condition: Condition) -> Denoised:
        """Return `distortion`: the mean squared error of the latent, (B, C, h, w)."""
        estimate = self.network(condition.spatial)
        return Denoised({"distortion": (estimate - target).square().mean()}, estimate)

    def sample(self, condition: Condition, shape: tuple[int, int], sampling: Sampling) -> Tensor:
        """Return the mean, (1, C, h, w); there is nothing to sample."""
        assert condition.spatial is not None
        rows, columns = shape
        return self.network(condition.spatial)[..., :rows, :columns]

"""A decoder without diffusion, which returns the base reconstruction."""

from torch import Tensor

from ulcompress.decoders.base import Decoder
from ulcompress.part import loadable
from ulcompress.records import Condition, Denoised, Sampling


@loadable()
class BaseReconstruction(Decoder):
    """Returns the base reconstruction, so that a learned codec can be trained and compared on its own.

    It works in pixel space: the target is the image in [-1, 1].
    """

    requires = frozenset({"base"})
    accepts = requires
    channels = 3
    target_stride = 1
    loss_terms = frozenset({"distortion"})

    def __init__(self):
        super().__init__()
        self.condition_channels = {}

    def loss(self, target: Tensor, condition: Condition) -> Denoised:
        """Return `distortion`: the mean squared error of the base, for pixels in [0, 1]."""
        assert condition.base is not None
        estimate = 2 * condition.base - 1
        return Denoised({"distortion": (estimate - target).square().mean() / 4}, estimate)

    def sample(self, condition: Condition, shape: tuple[int, int], sampling: Sampling) -> Tensor:
        """Return the base in [-1, 1], (1, 3, h, w); it samples nothing."""
        assert condition.base is not None
        return 2 * condition.base - 1

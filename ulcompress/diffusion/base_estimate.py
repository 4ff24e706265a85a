"""The base reconstruction as the estimate of an image."""

from torch import Tensor

from ulcompress.diffusion.estimate import Estimate
from ulcompress.part import loadable
from ulcompress.records import Condition


@loadable()
class BaseEstimate(Estimate):
    """Takes the base reconstruction, which the same file restores, as the estimate of the image, in [-1, 1].

    Source: CGDM (Kuang et al., ACM MM 2024), where the base guides the diffusion.
    """

    requires = frozenset({"base"})
    channels = 3
    target_stride = 1

    def __init__(self, *, added: bool = True):
        """Choose whether the network's output is added to the base; an untrained decoder then returns the base."""
        super().__init__()
        self.added = added
        self.condition_channels = {"base": 3}

    def forward(self, condition: Condition) -> Tensor:
        """Return the base in [-1, 1], (B, 3, H, W)."""
        assert condition.base is not None
        return 2 * condition.base - 1

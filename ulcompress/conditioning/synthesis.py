"""The synthesis transform of a learned codec, whose output is the base reconstruction."""

from typing import Any

from torch import Tensor

from ulcompress.conditioning.base import Conditioner
from ulcompress.learned.compressai import CompressAIModel, HyperpriorModel
from ulcompress.part import loadable
from ulcompress.records import Condition


@loadable()
class SynthesisTransform(Conditioner):
    """Turns the quantised features into the base reconstruction: `g_s` in Ballé et al., ICLR 2018, figure 2."""

    provides = frozenset({"base"})

    def __init__(self, *, model: HyperpriorModel | None = None):
        """Take the network of `model`, a small mean-scale hyperprior with random weights by default."""
        super().__init__()
        self.model = model if model is not None else CompressAIModel()
        self.feature_channels = self.model.channels
        self.feature_stride = self.model.stride
        self.network = self.model.synthesis()

    def forward(self, side: Any, features: Tensor, condition: Condition) -> Condition:
        """Set `base`, (B, 3, H, W), from features (B, C, h, w).

        In [0, 1] except in training, where clamping would stop the gradient.
        """
        base = self.network(features).float()
        # The symbols of a damaged file may make the network overflow.
        return condition.with_(base=base if self.training else base.nan_to_num().clamp(0, 1))

"""The denoising network: diffusers' conditional U-Net with the spatial condition at its input."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from ulcompress.part import Part
from ulcompress.records import Condition


class UNet(Part):
    """Predicts from a noisy latent, the time, and the condition.

        x_t ───────────────┐
        spatial ─► nearest ─┴─► concatenate ─► UNet2DConditionModel ─► prediction
        text ─────────────────────────────────► cross-attention

    Self-attention is left out: the network is convolutional but for the text, so it carries over from crops to images
    of any size. The finest level has no attention at all.
    """

    def __init__(
        self,
        *,
        channels: int = 4,
        spatial_channels: int = 320,
        text_channels: int = 128,
        widths: Sequence[int] = (96, 160, 224),
        layers: int = 1,
        head_channels: int = 32,
    ):
        """Build a small network with random weights.

        Args:
            channels: Of the latent.
            spatial_channels: Of the spatial condition.
            text_channels: Of the text embeddings.
            widths: Channels of each level, finest first.
            layers: Residual blocks a level.
            head_channels: Channels of an attention head.
        """
        super().__init__()
        self.channels = channels
        self.condition_channels = {"spatial": spatial_channels, "text": text_channels}
        attended = len(widths) - 1
        # diffusers annotates some of these tuples as having one element.
        options: dict[str, Any] = {
            "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * attended,
            "up_block_types": ("CrossAttnUpBlock2D",) * attended + ("UpBlock2D",),
            "block_out_channels": tuple(widths),
            "attention_head_dim": tuple(width // head_channels for width in widths),
        }
        self.network = UNet2DConditionModel(
            in_channels=channels + spatial_channels,
            out_channels=channels,
            mid_block_type="UNetMidBlock2D",
            only_cross_attention=True,
            layers_per_block=layers,
            cross_attention_dim=text_channels,
            norm_num_groups=16,
            **options,
        )

    def forward(self, noisy: Tensor, times: Tensor, condition: Condition) -> Tensor:
        """Map x_t, (B, C, h, w), times (B,) and a condition whose `spatial` has the same grid to a prediction."""
        assert condition.spatial is not None and condition.spatial.shape[-2:] == noisy.shape[-2:]
        text, mask = condition.text, condition.text_mask
        if text is None:
            text = noisy.new_zeros(len(noisy), 1, self.condition_channels["text"])
        return self.network(
            torch.cat([noisy, condition.spatial], 1),
            times,
            encoder_hidden_states=text,
            # diffusers masks the second attention of a block by one argument and the first by another.
            encoder_attention_mask=mask,
            attention_mask=mask,
        ).sample

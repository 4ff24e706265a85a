"""The denoising network of latents: a conditional U-Net with maps of the condition at its input."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ulcompress.denoisers.base import Context, Denoiser, check_maps, maps_of, text_of
from ulcompress.denoisers.convolutional_unet import ConvolutionalUNet
from ulcompress.foundation.network import architecture_of, built_again
from ulcompress.foundation.stable_diffusion import StableDiffusion, load_or_build
from ulcompress.functional.padding import replicated
from ulcompress.part import loadable
from ulcompress.records import Condition

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

TRAINED = ("all", "linear", "lora")
NEW_INPUTS = ("random", "zero")
PADDINGS = ("zeros", "replicate")


@loadable(sources=["pretrained"], plain=["maps", "architecture", "new_inputs", "trained", "padding"])
class UNet(Denoiser):
    """Predicts from a noisy latent, the time, and the condition.

        x_t ──┐
        maps ─┴─► concatenate ─► U-Net ─► prediction
        text ──────────────────► cross-attention
        syntax ─► linear ─► added to the time ─► every residual block

    The small network, `ConvolutionalUNet`, has no self-attention: it is convolutional except for the text, so it
    generalises from crops to images of any size; its finest level has no attention at all. A pretrained network is
    Stable Diffusion's, except for the wider first convolution and the projection of the syntax. Sources of the
    conditioning: PerCo, arXiv 2310.10325, section 3; the syntax is projected as Meng et al., On Distillation of Guided
    Diffusion Models, CVPR 2023, project the guidance scale.
    """

    def __init__(
        self,
        *,
        channels: int = 4,
        maps: dict[str, int] | None = None,
        text_channels: int = 128,
        syntax_channels: int | None = None,
        widths: Sequence[int] = (96, 160, 224),
        layers: int = 1,
        head_channels: int = 32,
        pretrained: StableDiffusion | None = None,
        architecture: dict[str, Any] | None = None,
        new_inputs: str = "random",
        trained: str = "all",
        lora_rank: int = 16,
        zero_output: bool = False,
        padding: str = "zeros",
    ):
        """Build a small network with random weights, or take a pretrained one with the sizes that it has.

        Args:
            channels: Channels of the latent.
            maps: Fields of the condition that it takes beside x_t, with their channels: `spatial`, the features;
                `estimate`, the decoder's estimate of the target; or maps of other conditioners. PerCo's
                `spatial: 320` by default.
            text_channels: Channels of the text embeddings.
            syntax_channels: Channels of the syntax; None takes no syntax.
            widths: Channels of each level, finest first.
            layers: Residual blocks a level.
            head_channels: Channels of an attention head.
            pretrained: Take the U-Net of this model and widen its first convolution by the maps; of the other sizes
                only `syntax_channels` is used.
            architecture: Build diffusers' UNet2DConditionModel of this configuration, already widened, instead. A saved
                codec states its pretrained network in this way, and then no longer needs that model.
            new_inputs: Initial weights of the first convolution for the maps, where `pretrained` has none:
                `random` as PyTorch starts a convolution, or `zero`, so that training starts from the model unchanged.
            trained: `all` parameters; `linear`: those of all linear layers and of the first convolution, as PerCo does;
                `lora`: low-rank additions to the attention's projections (Hu et al., LoRA, ICLR 2022) and the first
                convolution. The projection of the syntax is always trained.
            lora_rank: Rank of those additions.
            zero_output: Start with a last convolution of zeros, where the output is added to an estimate.
            padding: How convolutions continue a map beyond its border: `zeros`, as in Stable Diffusion, or `replicate`:
                the nearest value. On crops, where a border is always near, a network learns to rely on the zeros, and
                then shifts colours in the middle of larger images, where there are none.

        Raises:
            ValueError: An option has an unknown value, the widths cannot be used, both `pretrained` and `architecture`
                are set, or the pretrained weights are missing.
        """
        super().__init__()
        if trained not in TRAINED:
            raise ValueError(f"trained must be one of {', '.join(TRAINED)}, got {trained!r}")
        if new_inputs not in NEW_INPUTS:
            raise ValueError(f"new_inputs must be one of {', '.join(NEW_INPUTS)}, got {new_inputs!r}")
        if padding not in PADDINGS:
            raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, got {padding!r}")
        self.maps = check_maps(maps if maps is not None else {"spatial": 320})
        map_channels = sum(self.maps.values())
        self._is_foreign = pretrained is not None or architecture is not None
        if self._is_foreign:
            self.network = _foreign(pretrained, architecture, map_channels, syntax_channels, new_inputs)
            self._architecture = architecture_of(self.network)
            self._check(self._architecture, map_channels, syntax_channels)
            self.channels: int = self._architecture["out_channels"]
            text_channels = self._architecture["cross_attention_dim"]
        else:
            self.network = ConvolutionalUNet(
                in_channels=channels + map_channels,
                out_channels=channels,
                text_channels=text_channels,
                syntax_channels=syntax_channels,
                widths=widths,
                layers=layers,
                head_channels=head_channels,
            )
            self.channels = channels
        syntax = {} if syntax_channels is None else {"syntax": syntax_channels}
        self.requires = frozenset([*self.maps, *syntax])
        self.condition_channels = self.maps | syntax | {"text": text_channels}
        if zero_output:
            nn.init.zeros_(self.network.conv_out.weight)
            nn.init.zeros_(self.network.conv_out.bias)  # pyright: ignore[reportArgumentType]
        _pad(self.network, padding)
        _choose_trained(self.network, trained, lora_rank)

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments; a pretrained network by its architecture."""
        arguments = super().arguments()
        if not self._is_foreign:
            return arguments
        kept = ("maps", "syntax_channels", "trained", "lora_rank", "padding")
        return {**built_again(self._architecture), **{name: arguments[name] for name in kept}}

    def checkpoint_activations(self) -> None:
        """Compute those within blocks a second time."""
        if isinstance(self.network, ConvolutionalUNet):
            self.network.checkpoint_activations()
        else:
            self.network.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False))

    def blocks(self) -> Sequence[nn.Module]:
        """Return those of each level, and the one in the middle."""
        network = self.network
        return [*network.down_blocks, *([network.mid_block] if network.mid_block else []), *network.up_blocks]

    def forward(self, noisy: Tensor, times: Tensor, condition: Condition, context: Context = ()) -> Tensor:
        """Map x_t, (B, C, h, w), times (B,) and a condition whose maps have the same grid to a prediction."""
        text, mask = text_of(condition, self.condition_channels["text"], noisy)
        inputs = torch.cat([noisy, *maps_of(condition, self.maps)], 1)
        weight = self.network.conv_in.weight.dtype
        syntax = condition.syntax if "syntax" in self.condition_channels else None
        syntax = None if syntax is None else syntax.to(weight)
        predict = self.network if isinstance(self.network, ConvolutionalUNet) else self._foreign_prediction
        return predict(inputs.to(weight), times, text.to(weight), mask, syntax).to(noisy.dtype)

    def _foreign_prediction(
        self, x: Tensor, times: Tensor, text: Tensor, mask: Tensor | None, syntax: Tensor | None
    ) -> Tensor:
        # Where a block has cross-attention only, diffusers masks its first attention by one argument and its second by
        # another; in other blocks the first one is self-attention, which sees no text.
        return self.network(
            x,
            times,
            timestep_cond=syntax,
            encoder_hidden_states=text,
            encoder_attention_mask=mask,
            attention_mask=mask if self._architecture["only_cross_attention"] else None,
        ).sample

    def _check(self, architecture: dict[str, Any], map_channels: int, syntax_channels: int | None) -> None:
        """Raise ValueError where the architecture takes other channels than the maps and the syntax have."""
        channels = architecture["out_channels"]
        if architecture["in_channels"] != channels + map_channels:
            raise ValueError(
                f"the network takes {architecture['in_channels']} channels, which are not its {channels} of the latent "
                f"and {map_channels} of the maps {self.maps}; set the channels of the maps to the difference"
            )
        if architecture["time_cond_proj_dim"] != syntax_channels:
            raise ValueError(
                f"the network takes a syntax of {architecture['time_cond_proj_dim']} channels, got "
                f"syntax_channels={syntax_channels}; set it to that"
            )


def _foreign(
    pretrained: StableDiffusion | None,
    architecture: dict[str, Any] | None,
    maps: int,
    syntax: int | None,
    new_inputs: str,
) -> Any:
    """Return a pretrained network, which takes the maps and the syntax as well, or one of an architecture."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    network = load_or_build(UNet2DConditionModel, "unet", pretrained, architecture)
    if network is not None and pretrained is not None:
        _widen(network, maps, zero=new_inputs == "zero")
        _project_syntax(network, syntax)
    return network


@torch.no_grad()
def _widen(network: "UNet2DConditionModel", maps: int, *, zero: bool) -> None:
    """Widen the first convolution by the channels of maps after the latent, whose weights stay."""
    old = network.conv_in
    wide = nn.Conv2d(old.in_channels + maps, old.out_channels, 3, padding=1, dtype=old.weight.dtype)
    if zero:
        wide.weight.zero_()
    wide.weight[:, : old.in_channels] = old.weight
    assert old.bias is not None and wide.bias is not None
    wide.bias.copy_(old.bias)
    network.conv_in = wide
    network.register_to_config(in_channels=wide.in_channels)


def _project_syntax(network: "UNet2DConditionModel", channels: int | None) -> None:
    """Give the time's embedding a zero projection of the syntax, which changes nothing yet; None removes it."""
    embedding: Any = network.time_embedding
    embedding.cond_proj = None
    if channels is not None:
        first = embedding.linear_1
        embedding.cond_proj = nn.Linear(channels, first.in_features, bias=False, dtype=first.weight.dtype)
        nn.init.zeros_(embedding.cond_proj.weight)
    network.register_to_config(time_cond_proj_dim=channels)


class _ReplicatingConv2d(nn.Conv2d):
    """A convolution that continues its input by the nearest values, as the padding mode `replicate` does.

    torch 2.14 compiles that mode to a gradient in another memory format than it expects (seen with inductor).
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows, columns = (int(side) for side in self.padding)
        padded = replicated(input, rows, columns)
        return F.conv2d(padded, weight, bias, self.stride, 0, self.dilation, self.groups)


def _pad(network: nn.Module, padding: str) -> None:
    """Let all convolutions that pad continue their input so."""
    if padding == "zeros":
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and any(module.padding):
            module.__class__ = _ReplicatingConv2d


def _choose_trained(network: Any, trained: str, rank: int) -> None:
    """Mark the parameters that an optimiser changes; add those of LoRA."""
    network.requires_grad_(trained == "all")
    if trained == "linear":
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.requires_grad_(True)
    if trained == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        # The additions start at zero, so that training starts from the model unchanged.
        additions = LoraConfig(r=rank, lora_alpha=rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
        inject_adapter_in_model(additions, network)
    network.conv_in.requires_grad_(True)
    if network.time_embedding.cond_proj is not None:
        network.time_embedding.cond_proj.requires_grad_(True)

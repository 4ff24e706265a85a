"""The denoising network of latents: diffusers' conditional U-Net with maps of the condition at its input."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ulcompress.denoisers.base import Context, Denoiser, check_maps, maps_of, text_of
from ulcompress.foundation.network import architecture_of, built_again
from ulcompress.foundation.stable_diffusion import StableDiffusion, load_or_build
from ulcompress.part import loadable
from ulcompress.records import Condition

TRAINED = ("all", "linear", "lora")
NEW_INPUTS = ("random", "zero")
PADDINGS = ("zeros", "replicate")


@loadable(sources=["pretrained"], plain=["maps", "architecture", "new_inputs", "trained", "padding"])
class UNet(Denoiser):
    """Predicts from a noisy latent, the time, and the condition.

        x_t ──┐
        maps ─┴─► concatenate ─► UNet2DConditionModel ─► prediction
        text ──────────────────► cross-attention
        syntax ─► linear ─► added to the time ─► every residual block

    The small network has no self-attention: it is convolutional except for the text, so it generalises from crops to
    images of any size; its finest level has no attention at all. A pretrained network is Stable Diffusion's, except for
    the wider first convolution and the projection of the syntax. Sources of the conditioning: PerCo, arXiv 2310.10325,
    section 3; the syntax is projected as Meng et al., On Distillation of Guided Diffusion Models, CVPR 2023, project
    the guidance scale.
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
            ValueError: An option has an unknown value, both `pretrained` and `architecture` are set, or the pretrained
                weights are missing.
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
        loaded = load_or_build(UNet2DConditionModel, "unet", pretrained, architecture)
        self._is_small = loaded is None
        small = (channels, map_channels, text_channels, syntax_channels, widths, layers, head_channels)
        self.network = _small(*small) if loaded is None else loaded
        if pretrained is not None:
            _widen(self.network, map_channels, zero=new_inputs == "zero")
            _project_syntax(self.network, syntax_channels)
        options = architecture_of(self.network)
        self._architecture = options
        self.channels: int = options["out_channels"]
        if options["in_channels"] != self.channels + map_channels:
            raise ValueError(
                f"the network takes {options['in_channels']} channels, which are not its {self.channels} of the latent "
                f"and {map_channels} of the maps {self.maps}; set the channels of the maps to the difference"
            )
        if options["time_cond_proj_dim"] != syntax_channels:
            raise ValueError(
                f"the network takes a syntax of {options['time_cond_proj_dim']} channels, got "
                f"syntax_channels={syntax_channels}; set it to that"
            )
        syntax = {} if syntax_channels is None else {"syntax": syntax_channels}
        self.requires = frozenset([*self.maps, *syntax])
        self.condition_channels = self.maps | syntax | {"text": options["cross_attention_dim"]}
        if zero_output:
            nn.init.zeros_(self.network.conv_out.weight)
            nn.init.zeros_(self.network.conv_out.bias)  # pyright: ignore[reportArgumentType]
        _pad(self.network, padding)
        _choose_trained(self.network, trained, lora_rank)

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments; a pretrained network by its architecture."""
        arguments = super().arguments()
        if self._is_small:
            return arguments
        kept = ("maps", "syntax_channels", "trained", "lora_rank", "padding")
        return {**built_again(self._architecture), **{name: arguments[name] for name in kept}}

    def checkpoint_activations(self) -> None:
        """Compute those within blocks a second time."""
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
        # Where a block has cross-attention only, diffusers masks its first attention by one argument and its second by
        # another; in other blocks the first one is self-attention, which sees no text.
        first = mask if self._architecture["only_cross_attention"] else None
        syntax = condition.syntax if "syntax" in self.condition_channels else None
        return self.network(
            inputs.to(weight),
            times,
            timestep_cond=None if syntax is None else syntax.to(weight),
            encoder_hidden_states=text.to(weight),
            encoder_attention_mask=mask,
            attention_mask=first,
        ).sample.to(noisy.dtype)


def _small(
    channels: int,
    maps: int,
    text: int,
    syntax: int | None,
    widths: Sequence[int],
    layers: int,
    head_channels: int,
) -> UNet2DConditionModel:
    attended = len(widths) - 1
    # diffusers annotates some of these tuples as having one element.
    options: dict[str, Any] = {
        "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * attended,
        "up_block_types": ("CrossAttnUpBlock2D",) * attended + ("UpBlock2D",),
        "block_out_channels": tuple(widths),
        "attention_head_dim": tuple(width // head_channels for width in widths),
    }
    return UNet2DConditionModel(
        in_channels=channels + maps,
        out_channels=channels,
        mid_block_type="UNetMidBlock2D",
        only_cross_attention=True,
        layers_per_block=layers,
        cross_attention_dim=text,
        time_cond_proj_dim=syntax,
        norm_num_groups=16,
        **options,
    )


@torch.no_grad()
def _widen(network: UNet2DConditionModel, maps: int, *, zero: bool) -> None:
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


def _project_syntax(network: UNet2DConditionModel, channels: int | None) -> None:
    """Give the time's embedding a zero projection of the syntax, which changes nothing yet; None removes it."""
    embedding: Any = network.time_embedding
    embedding.cond_proj = None
    if channels is not None:
        first = embedding.linear_1
        embedding.cond_proj = nn.Linear(channels, first.in_features, bias=False, dtype=first.weight.dtype)
        nn.init.zeros_(embedding.cond_proj.weight)
    network.register_to_config(time_cond_proj_dim=channels)


def _pad(network: nn.Module, padding: str) -> None:
    """Set the padding mode of all convolutions that pad."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and any(module.padding):
            module.padding_mode = padding  # pyright: ignore[reportAttributeAccessIssue]


def _choose_trained(network: UNet2DConditionModel, trained: str, rank: int) -> None:
    """Mark the parameters that an optimiser changes; add those of LoRA."""
    network.requires_grad_(trained == "all")
    if trained == "linear":
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.requires_grad_(True)
    if trained == "lora":
        from peft import LoraConfig

        # The additions start at zero, so that training starts from the model unchanged.
        network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    network.conv_in.requires_grad_(True)
    if network.time_embedding.cond_proj is not None:
        network.time_embedding.cond_proj.requires_grad_(True)

"""Which parts of a codec a training leaves as they are."""

from typing import final

from torch import nn

from ulcompress.codec import Codec
from ulcompress.part import Part, loadable


@loadable(plain=["frozen", "trained"])
@final
class Freezing(Part):
    """Keeps parts of a codec as they are: their parameters get no gradients, and no statistic of theirs moves.

    The autoencoder is always frozen, but for what `trained` names.
    """

    def __init__(self, *, frozen: list[str] | None = None, trained: list[str] | None = None):
        """Name the parts by their slots.

        Args:
            frozen: Parts that are not trained, such as `encoder` or `conditioning.base`, beside the autoencoder. They
                stay in evaluation mode: no codebook, table or other statistic of theirs moves.
            trained: Parts within those that are trained all the same, such as `autoencoder.network.decoder`: what turns
                latents into pixels may follow the terms on images, while latents stay what they are; or
                `quantizer.entropies`, which learns the probabilities of symbols that stay what they are.
        """
        super().__init__()
        self.frozen = ["autoencoder", *(frozen or [])]
        self.trained = list(trained or [])

    def freeze(self, codec: Codec) -> None:
        """Set which parameters of a codec get gradients; ValueError where it does not have one of the parts."""
        for name in self.frozen:
            _part(codec, name).requires_grad_(False)
        for name in self.trained:
            _part(codec, name).requires_grad_(True)

    def set_modes(self, codec: Codec) -> None:
        """Put what is frozen into evaluation mode, and what is trained within it into the codec's mode."""
        for name in self.frozen:
            _part(codec, name).eval()
        for name in self.trained:
            _part(codec, name).train(codec.training)


def _part(codec: Codec, name: str) -> nn.Module:
    try:
        return codec.get_submodule(name)
    except AttributeError:
        slots = [*dict(codec.named_children()), *(f"conditioning.{key}" for key in codec.conditioning)]
        raise ValueError(f"the codec has no part {name!r}; its parts are {', '.join(slots)}") from None

"""Where a new training takes its weights."""

from typing import final

from torch import nn

from ulcompress import pretrained
from ulcompress.codec import Codec
from ulcompress.part import Part, loadable
from ulcompress.pretrained import read_checkpoint
from ulcompress.pretrained.location import locate


@loadable(plain=["codec", "parts", "without", "autoencoder"])  # none of them is read where a checkpoint is
@final
class Start(Part):
    """Loads weights of earlier stages into a codec when a new training starts, not when one is continued."""

    def __init__(
        self,
        *,
        codec: str | None = None,
        parts: list[str] | None = None,
        without: list[str] | None = None,
        autoencoder: str | None = None,
    ):
        """Name the sources; without any, the weights are those that the parts are built with.

        Args:
            codec: A saved codec: a bundled name or a directory.
            parts: Slots that take their weights from `codec`, such as `decoder` or `conditioning.text`, where not all
                parts are the same; None for all.
            without: Parts that keep the weights that they are built with, such as `quantizer.entropy`, where another
                one takes the place of that of `codec`.
            autoencoder: Lightning checkpoint of `AutoencoderModule`, for the autoencoder's weights.
        """
        super().__init__()
        self.codec = codec
        self.parts = parts
        self.without = without
        self.autoencoder = autoencoder

    def check(self) -> None:
        """Raise ValueError where a source is missing."""
        if self.codec:
            locate(self.codec)
        if self.autoencoder:
            read_checkpoint(self.autoencoder)

    def load(self, codec: Codec) -> None:
        """Load the weights; ValueError where a source is missing or does not fit."""
        if self.codec:
            pretrained.load_weights(codec, self.codec, parts=self.parts, without=self.without or ())
        if self.autoencoder:
            load_stage(codec.autoencoder, self.autoencoder, "autoencoder.")

    def fingerprint(self, codec: Codec) -> str | None:
        """Return the fingerprint of the saved codec if a codec with the loaded weights reads its files, else None."""
        if self.codec is None:
            return None
        packages = {type(part).__module__.partition(".")[0] for part in codec.modules() if isinstance(part, Part)}
        try:
            saved = pretrained.load(self.codec, encoder_only=True, trust=packages)
        except ValueError:  # of its parts the weights alone were needed
            return None
        return saved.fingerprint.hex() if saved.file_digest() == codec.file_digest() else None


def load_stage(module: nn.Module, checkpoint: str, prefix: str) -> None:
    """Give a module the weights that an earlier stage's checkpoint holds under `prefix`.

    Raises:
        ValueError: The file is missing, unreadable, or does not hold this module.
    """
    state = read_checkpoint(checkpoint)["state_dict"]
    weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint!r} does not hold this {type(module).__name__}: {error}") from error

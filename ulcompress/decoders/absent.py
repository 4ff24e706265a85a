"""The place of the decoder in a codec that encodes only."""

from typing import NoReturn

from ulcompress.decoders.base import Decoder


class AbsentDecoder(Decoder):
    """Has no weights and restores nothing; using it raises ValueError."""

    requires = frozenset()
    accepts = frozenset()
    channels = 0

    def __init__(self):
        super().__init__()
        self.condition_channels = {}

    def loss(self, *_, **__) -> NoReturn:
        """Raise ValueError."""
        raise ValueError("this codec has no decoder to train; build it with one")

    def sample(self, *_, **__) -> NoReturn:
        """Raise ValueError."""
        raise ValueError("this codec was loaded without its decoder; load it without encoder_only to decompress")

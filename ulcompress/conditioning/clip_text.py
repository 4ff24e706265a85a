"""The text encoder of Stable Diffusion."""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ulcompress.conditioning.text_encoder import TextEncoder
from ulcompress.foundation.network import built_again
from ulcompress.foundation.stable_diffusion import StableDiffusion, load_or_build
from ulcompress.part import loadable

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@loadable(sources=["pretrained"], plain=["architecture"])
class ClipTextEncoder(TextEncoder):
    """Embeds captions as in the training of the diffusion model: by CLIP's last hidden state of a padded text.

        caption ─► CLIP's tokens, padded ─► CLIPTextModel ─► text

    The weights are frozen. Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML
    2021, section 2.4. The buffer `tokenizer_json`, (n,) uint8, holds the tokenizer, so that a saved codec is complete.
    """

    def __init__(self, *, pretrained: StableDiffusion | None = None, architecture: dict[str, Any] | None = None):
        """Take network and tokenizer of a pretrained model.

        Args:
            pretrained: The pretrained model.
            architecture: Build transformers' CLIPTextModel of this configuration instead. A saved codec states its
                pretrained network in this way.

        Raises:
            ValueError: Neither or both are set, or the pretrained weights are missing.
        """
        super().__init__()
        from transformers import CLIPTextModel

        self.tokenizer_json: Tensor
        self._tokenizer: Tokenizer | None = None
        network = load_or_build(CLIPTextModel, "text_encoder", pretrained, architecture)
        if network is None:
            raise ValueError("ClipTextEncoder has no small network; give `pretrained`")
        self.network = network.eval().requires_grad_(False)
        text = b""  # for a saved codec, which loads it with its weights
        if pretrained is not None:
            text = _serialized(pretrained.tokenizer(), self.network.config.max_position_embeddings)
        self.register_buffer(
            "tokenizer_json",
            torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else torch.empty(0, dtype=torch.uint8),
        )
        self.channels = self.network.config.hidden_size

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments: the architecture."""
        config = self.network.config.to_dict()
        names = inspect.signature(type(self.network.config)).parameters
        kept = {name: config[name] for name in names if isinstance(config.get(name), (int, float, str))}
        origin = getattr(self.network, "origin", None)
        return built_again(kept | ({"origin": origin} if origin else {}))

    def check_state(self) -> None:
        """Raise ValueError for a damaged tokenizer, or one that does not fit this network."""
        config = self.network.config
        length = config.max_position_embeddings
        try:
            tokenizer = self._built()
            padding, cut = tokenizer.padding or {}, tokenizer.truncation or {}
            fits = padding.get("length") == cut.get("max_length") == length
            fits = fits and max(tokenizer.get_vocab().values()) < config.vocab_size
        except Exception as error:  # the tokenizer's reader raises anything on damaged bytes
            raise ValueError(f"the tokenizer is damaged: {' '.join(str(error).split())}") from error
        if not fits:
            raise ValueError(f"the tokenizer does not fit: the network takes {length} tokens of {config.vocab_size}")

    @torch.no_grad()
    def forward(self, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Embed captions, each truncated to CLIP's length; every position counts, as in the model's training.

        Returns (B, L, channels) and the mask (B, L), all true; the tokens of the text coder are not used.
        """
        rows = [encoding.ids for encoding in self._built().encode_batch(list(texts))]
        ids = torch.tensor(rows, device=self.tokenizer_json.device)
        hidden = self.network(input_ids=ids).last_hidden_state.float()
        return hidden, torch.ones_like(ids, dtype=torch.bool)

    def train(self, mode: bool = True) -> "ClipTextEncoder":
        """Stay in evaluation mode: the network is not trained."""
        return super().train(False)

    def _built(self) -> "Tokenizer":
        from tokenizers import Tokenizer

        if self._tokenizer is None:
            self._tokenizer = Tokenizer.from_str(self.tokenizer_json.cpu().numpy().tobytes().decode())
        return self._tokenizer

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # The tokenizer's length is not known before it is loaded.
        if (saved := state_dict.get(f"{prefix}tokenizer_json")) is not None:
            self.tokenizer_json = torch.empty_like(saved, device=self.tokenizer_json.device)
            self._tokenizer = None
        super()._load_from_state_dict(state_dict, prefix, *args)


def _serialized(tokenizer: Any, length: int) -> bytes:
    """Return a CLIP tokenizer as JSON, with padding and truncation to a fixed length."""
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(length)
    backend.enable_padding(length=length, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    return backend.to_str().encode()

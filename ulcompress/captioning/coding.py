"""Captions of a codec coded by contexts that are learnt from a text."""

import zlib
from collections.abc import Sequence

from ulcompress.codec import Codec
from ulcompress.conditioning import ContextMixing, TextPrompt
from ulcompress.pretrained import build


def with_learnt_captions(codec: Codec, texts: Sequence[str], background: Sequence[str] = ()) -> Codec:
    """Return a codec that differs in how it codes captions alone: by `ContextMixing`, learnt from texts.

    A background is general text of the language, for the words that the texts lack.
    Its vocabulary stays, so that the text encoder understands its tokens as before.

    Raises:
        ValueError: There is no text, or the codec sends no captions.
    """
    if not any(texts):
        raise ValueError("there is no caption to learn from")
    name, prompt = _prompt_of(codec)
    coder = ContextMixing(vocabulary=prompt.coder.vocabulary)
    coder.learn(list(texts), background)
    config = codec.arguments()
    config["conditioning"][name]["init_args"]["coder"] = coder.config()
    packages = {type(part).__module__.partition(".")[0] for part in codec.modules()}
    learnt = build(config, trust=packages)  # all of it is in use already
    kept = {
        key: value for key, value in codec.state_dict().items() if not key.startswith(f"conditioning.{name}.coder.")
    }
    learnt.load_state_dict(
        kept | {f"conditioning.{name}.coder.{key}": value for key, value in coder.state_dict().items()}
    )
    return learnt.eval()


def caption_bytes(codec: Codec, texts: Sequence[str]) -> float:
    """Return the mean number of bytes that a codec spends on a caption, ideal and so not whole."""
    coder = _prompt_of(codec)[1].coder
    return float(coder.bits([coder.tokens(text) for text in texts]).mean()) / 8


def deflated_bytes(text: str) -> int:
    """Return the bytes of a text after deflate alone, without the header and the check that zlib adds."""
    compressor = zlib.compressobj(9, wbits=-15)
    return len(compressor.compress(text.encode()) + compressor.flush())


def _prompt_of(codec: Codec) -> tuple[str, TextPrompt]:
    for name, conditioner in codec.conditioners.items():
        if isinstance(conditioner, TextPrompt):
            return name, conditioner
    raise ValueError("this codec sends no captions")

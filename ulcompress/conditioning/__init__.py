from typing import TYPE_CHECKING

from ulcompress.functional.lazy import lazy_exports

if TYPE_CHECKING:
    from ulcompress.captioning.captioner import BlipCaptioner, Captioner
    from ulcompress.conditioning.base import AdjustableConditioner, Conditioner
    from ulcompress.conditioning.byte_pairs import BytePairs
    from ulcompress.conditioning.caption_coder import CaptionCoder
    from ulcompress.conditioning.clip_text import ClipTextEncoder
    from ulcompress.conditioning.context_mixing import ContextMixing
    from ulcompress.conditioning.neural_syntax import NeuralSyntax
    from ulcompress.conditioning.spatial import SpatialFeatures
    from ulcompress.conditioning.summary import Summary
    from ulcompress.conditioning.syntax_generator import SyntaxGenerator
    from ulcompress.conditioning.synthesis import SynthesisTransform
    from ulcompress.conditioning.text import TextPrompt
    from ulcompress.conditioning.text_coder import TextCoder
    from ulcompress.conditioning.text_encoder import TextEncoder, TokenTransformer
    from ulcompress.conditioning.texture_energy import TextureEnergy

__all__ = [
    "AdjustableConditioner",
    "BlipCaptioner",
    "BytePairs",
    "CaptionCoder",
    "Captioner",
    "ClipTextEncoder",
    "Conditioner",
    "ContextMixing",
    "NeuralSyntax",
    "SpatialFeatures",
    "Summary",
    "SyntaxGenerator",
    "SynthesisTransform",
    "TextCoder",
    "TextEncoder",
    "TextPrompt",
    "TextureEnergy",
    "TokenTransformer",
]
__getattr__, __dir__ = lazy_exports(
    __name__,
    AdjustableConditioner="base",
    BlipCaptioner=".captioning.captioner",
    BytePairs="byte_pairs",
    CaptionCoder="caption_coder",
    Captioner=".captioning.captioner",
    ClipTextEncoder="clip_text",
    Conditioner="base",
    ContextMixing="context_mixing",
    NeuralSyntax="neural_syntax",
    SpatialFeatures="spatial",
    Summary="summary",
    SyntaxGenerator="syntax_generator",
    SynthesisTransform="synthesis",
    TextCoder="text_coder",
    TextEncoder="text_encoder",
    TextPrompt="text",
    TextureEnergy="texture_energy",
    TokenTransformer="text_encoder",
)

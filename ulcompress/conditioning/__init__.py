from ulcompress.captioning.captioner import BlipCaptioner, Captioner
from ulcompress.conditioning.base import AdjustableConditioner, Conditioner
from ulcompress.conditioning.byte_pairs import BytePairs
from ulcompress.conditioning.clip_text import ClipTextEncoder
from ulcompress.conditioning.neural_syntax import NeuralSyntax
from ulcompress.conditioning.spatial import SpatialFeatures
from ulcompress.conditioning.syntax_generator import SyntaxGenerator
from ulcompress.conditioning.synthesis import SynthesisTransform
from ulcompress.conditioning.text import TextPrompt
from ulcompress.conditioning.text_coder import TextCoder
from ulcompress.conditioning.text_encoder import TextEncoder, TokenTransformer

__all__ = [
    "AdjustableConditioner",
    "BlipCaptioner",
    "BytePairs",
    "Captioner",
    "ClipTextEncoder",
    "Conditioner",
    "NeuralSyntax",
    "SpatialFeatures",
    "SyntaxGenerator",
    "SynthesisTransform",
    "TextCoder",
    "TextEncoder",
    "TextPrompt",
    "TokenTransformer",
]

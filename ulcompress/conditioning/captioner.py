"""Images to captions, for the text that is sent or trained on."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from ulcompress.images import to_rgb
from ulcompress.part import Part

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_WANTED = "config.json, *.safetensors, and the files of its tokenizer and image processor"


class Captioner(Part, ABC):
    """Says in words what images show."""

    @abstractmethod
    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        """Return one caption an image, of any size and mode: one line without blanks at its ends, perhaps empty.

        The same images give the same captions.
        """


class BlipCaptioner(Captioner):
    """BLIP-2 through transformers, without a prompt, decoded greedily.

    The weights are loaded when it is built, so that what is missing is said before any work begins. They are read as
    safetensors only: nothing is unpickled, no code of the model's repository is run.

    Source: Li et al., BLIP-2, arXiv 2301.12597; used in PerCo, arXiv 2310.10325, section 3.3, with 32 tokens.
    """

    def __init__(
        self,
        *,
        model: str = "Salesforce/blip2-opt-2.7b-coco",
        revision: str | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        max_tokens: int = 32,
    ):
        """Load the model; the default one has 3.7 billion parameters.

        Args:
            model: Name on the model hub, or a directory with the same files.
            revision: Branch, tag or commit on the hub; None takes the main branch.
            dtype: Of the weights: float32, float16 or bfloat16. The Q-Former stays in float32 beside float16.
            device: Where the weights go.
            max_tokens: Longest caption, in tokens of the language model.

        Raises:
            ValueError: The model is not there, is no BLIP-2 or incomplete, or the device cannot be used.
        """
        super().__init__()
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
        if max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens}; give at least 1")
        self.max_tokens = max_tokens
        directory = _locate(model, revision)
        self.processor, self.network = _load(directory, DTYPES[dtype])
        try:
            self.network.to(device)  # pyright: ignore[reportArgumentType]
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"cannot use the device {device!r}: {reason}; `cpu` always works") from error
        self.train(False).requires_grad_(False)

    @torch.inference_mode()
    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        """Return one caption an image, in one batch."""
        if not images:
            return []
        pixels = self.processor(images=[to_rgb(image) for image in images], return_tensors="pt")["pixel_values"]
        # Without text the network makes its own prompt: the places of the image, then the start of a sentence.
        tokens = self.network.generate(
            pixels.to(self.network.device), max_new_tokens=self.max_tokens, do_sample=False, num_beams=1
        )
        return [_tidy(text) for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]

    def train(self, mode: bool = True) -> "BlipCaptioner":
        """Stay in evaluation mode: dropout would change the captions."""
        return super().train(False)


def _tidy(text: str) -> str:
    """Keep the first line: BLIP-2 on OPT ends a caption by a new line, and may go on after it."""
    return " ".join(text.strip().partition("\n")[0].split())


def _locate(model: str, revision: str | None) -> Path:
    """Return the directory that holds a model's files, after fetching those that are not there from the hub."""
    directory = Path(model).expanduser()
    if directory.is_dir():
        return directory
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        patterns = ["*.json", "*.txt", "*.model", "*.safetensors"]  # all that is read; others are pickled or prose
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"no captioner {model!r}: it is no directory here, and the model hub does not give it ({reason}); "
            f"give the directory of a local copy of a BLIP-2 model ({_WANTED})"
        ) from error


def _load(directory: Path, dtype: torch.dtype):
    """Return the processor and the network of a directory."""
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    _check(directory)
    try:
        processor = Blip2Processor.from_pretrained(directory, local_files_only=True)
        network, report = Blip2ForConditionalGeneration.from_pretrained(
            directory, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # on incomplete or damaged files transformers raises anything
        reason = " ".join(str(error).split())
        raise ValueError(
            f"cannot load the captioner in {directory}: {reason}; it needs {_WANTED}; get the model again"
        ) from error
    if missing := sorted(report["missing_keys"]):  # transformers would leave them random
        raise ValueError(
            f"the weights in {directory} lack {missing[0]} and {len(missing) - 1} more; get the model again"
        )
    if network.config.image_token_id is None:  # saved before transformers knew places for the image
        network.config.image_token_id = processor.tokenizer.convert_tokens_to_ids(str(processor.image_token))
    return processor, network


def _check(directory: Path) -> None:
    """Refuse what transformers would take: for another kind of model, or for none."""
    if not (directory / "config.json").is_file():
        raise ValueError(
            f"no captioner in {directory}: config.json is missing; give a directory with {_WANTED}, as "
            "`hf download Salesforce/blip2-opt-2.7b-coco --local-dir DIRECTORY` makes it"
        )
    try:
        kind = json.loads((directory / "config.json").read_bytes()).get("model_type")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"cannot read {directory / 'config.json'}: {error}; get the model again") from error
    if kind != "blip-2":
        raise ValueError(f"the model in {directory} is of the type {kind!r}; give a BLIP-2 model, type 'blip-2'")
    if not any(directory.glob("*.safetensors")):
        raise ValueError(
            f"no weights in {directory}: model.safetensors, or its shards and their index, are missing; "
            "pickled weights (.bin) are not read; get the model again or convert it"
        )

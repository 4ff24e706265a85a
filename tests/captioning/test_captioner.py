"""BLIP-2 at tiny size with random weights, through the path that the real weights take."""

import json
import shutil
from itertools import dropwhile, takewhile

import numpy as np
import pytest
import torch
from PIL import Image

from ulcompress.captioning.captioner import DEFAULT, BlipCaptioner
from ulcompress.foundation.hub import PINNED


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        Blip2QFormerConfig,
        Blip2VisionConfig,
        BlipImageProcessor,
        OPTConfig,
        PreTrainedTokenizerFast,
    )

    directory = tmp_path_factory.mktemp("blip")
    words = ["<s>", "<pad>", "</s>", "<unk>", "a", "red", "blue", "cup", "cat", "dog", "on", "the", "table", "street"]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    processor = Blip2Processor(BlipImageProcessor(size={"height": 28, "width": 28}), tokenizer, num_query_tokens=3)
    image_token = processor.tokenizer.convert_tokens_to_ids("<image>")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Blip2Config(
        vision_config=Blip2VisionConfig(image_size=28, patch_size=14, **small),
        qformer_config=Blip2QFormerConfig(vocab_size=16, encoder_hidden_size=16, cross_attention_frequency=1, **small),
        text_config=OPTConfig(
            vocab_size=len(processor.tokenizer),
            hidden_size=16,
            ffn_dim=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            word_embed_proj_dim=16,
            max_position_embeddings=64,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        ),
        num_query_tokens=3,
        image_token_index=image_token,
    )
    with torch.random.fork_rng():
        model = Blip2ForConditionalGeneration(config)
        torch.manual_seed(2)
        _let_images_matter(model)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def _let_images_matter(model):
    """Draw weights under which captions differ: with even ones the language model does not look at the image."""
    strong = ("patch_embedding", "value", "crossattention.output.dense", "v_proj", "out_proj")
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=3.0 if any(part in name for part in strong) else 0.3)
        else:
            torch.nn.init.constant_(parameter, float("norm" in name.lower() and name.endswith("weight")))


def images(count):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (30 + n, 40, 3), dtype=np.uint8)) for n in range(count)]


def test_captions_are_short_deterministic_and_per_image(blip, one_thread):
    captioner = BlipCaptioner(model=str(blip), max_tokens=5)
    pictures = images(3)
    captions = captioner.caption(pictures)
    assert len(captions) == 3
    assert captions == [captioner.caption([picture])[0] for picture in pictures]
    assert len(set(captions)) > 1, "the captions tell images apart, else their order would not be tested"
    assert all(len(caption.split()) <= 5 and "<" not in caption for caption in captions)


@pytest.mark.parametrize("place", ["before", "within"])
def test_what_follows_a_line_is_left_out(blip, one_thread, tmp_path, place):
    """The same weights, and a tokenizer in which one word of a caption is a newline."""
    words = BlipCaptioner(model=str(blip), max_tokens=8).caption(images(1))[0].split()
    newline = next(word for word in words if (word == words[0]) == (place == "before"))
    copy = tmp_path / "copy"
    shutil.copytree(blip, copy)
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["\n"] = vocabulary.pop(newline)
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    line = takewhile(lambda word: word != newline, dropwhile(lambda word: word == newline, words))
    expected = " ".join(line)
    assert expected
    assert BlipCaptioner(model=str(copy), max_tokens=8).caption(images(1)) == [expected]


def test_it_stays_in_evaluation_mode(blip, one_thread):
    captioner = BlipCaptioner(model=str(blip), max_tokens=5)
    expected = captioner.caption(images(3))
    torch.nn.ModuleList([captioner]).train()
    assert not any(module.training for module in captioner.modules())
    assert captioner.caption(images(3)) == expected


def test_precision_can_be_chosen(blip, one_thread):
    captioner = BlipCaptioner(model=str(blip), max_tokens=3, dtype="bfloat16")
    assert {parameter.dtype for parameter in captioner.network.parameters()} == {torch.bfloat16}
    assert len(captioner.caption(images(1))) == 1


def test_missing_weights_are_said_in_one_line(blip, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(blip, copy)
    (copy / "model.safetensors").unlink()
    for directory in (copy, tmp_path):
        with pytest.raises(ValueError, match=r"cannot load the captioner .*hf download Salesforce/") as error:
            BlipCaptioner(model=str(directory))
        assert "\n" not in str(error.value)


def test_no_network_is_said_in_one_line(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    advice = f"hf download {DEFAULT} --revision {PINNED[DEFAULT]} --local-dir DIRECTORY"
    with pytest.raises(ValueError, match=f"cannot load the captioner '{DEFAULT}'.*{advice}") as error:
        BlipCaptioner()
    assert "\n" not in str(error.value)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="dtype must be float32, float16 or bfloat16, got 'int8'"):
        BlipCaptioner(dtype="int8")
    with pytest.raises(ValueError, match="max_tokens is 0"):
        BlipCaptioner(max_tokens=0)


def test_files_that_do_not_name_the_image_token(blip, one_thread, tmp_path):
    """As those of the default model, which are older than that name."""
    copy = tmp_path / "copy"
    shutil.copytree(blip, copy)
    config = json.loads((copy / "config.json").read_text())
    del config["image_token_index"]
    (copy / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "<image>"]
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    expected = BlipCaptioner(model=str(blip), max_tokens=5).caption(images(2))
    assert BlipCaptioner(model=str(copy), max_tokens=5).caption(images(2)) == expected


def test_damaged_and_incomplete_weights_are_refused(blip, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = load_file(blip / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "qformer" not in name}
    for case in ("damaged", "incomplete"):
        copy = tmp_path / case
        shutil.copytree(blip, copy)
        if case == "damaged":
            (copy / "model.safetensors").write_bytes((blip / "model.safetensors").read_bytes()[:1000])
        else:
            save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match="cannot load the captioner") as error:
            BlipCaptioner(model=str(copy))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("weights", ["none", "a shard of two"])
def test_a_download_that_was_interrupted_goes_on(blip, weights, monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub import constants

    model = tmp_path / "models--some--blip"
    snapshot = model / "snapshots" / ("a" * 40)
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(snapshot.name)
    shutil.copytree(blip, snapshot, ignore=shutil.ignore_patterns("*.safetensors"))
    if weights == "a shard of two":
        index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
        (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
        (snapshot / "model-00001-of-00002.safetensors").touch()

    def unreachable(*_, **__):
        raise OSError("the hub was asked")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "model_info", unreachable)
    with pytest.raises(ValueError, match="the hub was asked"):
        BlipCaptioner(model="some/blip")


def test_an_unusable_device_is_said_in_one_line(blip):
    with pytest.raises(ValueError, match="cannot use the device 'nowhere'") as error:
        BlipCaptioner(model=str(blip), device="nowhere")
    assert "\n" not in str(error.value)

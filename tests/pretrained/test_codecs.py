import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from ulcompress import Codec, load
from ulcompress.autoencoders import PixelSpace
from ulcompress.conditioning import SpatialFeatures, SynthesisTransform
from ulcompress.decoders import BaseReconstruction
from ulcompress.encoders import AnalysisTransform
from ulcompress.entropy import ContextModel
from ulcompress.functional.devices import default_dtype
from ulcompress.learned.compressai import CompressAIModel
from ulcompress.pretrained import FILES, build, export, locate, metadata, read_checkpoint, save
from ulcompress.pretrained.upgrades import FORMAT
from ulcompress.quantizers import ResidualQuantizer, StringQuantizer

CAPTION = "a red cup on a chair"


def image():
    return torch.rand(3, 33, 40, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def saved(tiny_codec, tmp_path):
    directory = tmp_path / "codec"
    save(tiny_codec, directory)
    return directory


def is_halved(value):
    return value.is_floating_point() and value.numel() > 1


def rounded(codec):
    """The codec with its weights as the file keeps them."""
    codec = copy.deepcopy(codec)
    state = codec.state_dict()
    codec.load_state_dict({k: v.half().float() if is_halved(v) else v for k, v in state.items()})
    return codec


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def edit_config(directory, key, value):
    config = OmegaConf.load(directory / "config.yaml")
    OmegaConf.update(config, key, value, force_add=True)
    OmegaConf.save(config, directory / "config.yaml")


def test_a_loaded_codec_writes_the_same_bytes_and_images(tiny_codec, saved):
    codec, again = rounded(tiny_codec), load(saved)
    data = codec.compress(image(), CAPTION)
    assert again.compress(image(), CAPTION) == data
    assert torch.equal(again.decompress(data), codec.decompress(data))
    assert again.fingerprint == tiny_codec.fingerprint
    assert not again.training
    assert {p.dtype for p in again.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["tiny_codec", "tiny_staged_codec", "tiny_guided_codec"])
def test_a_codec_is_the_same_where_the_default_precision_is_another(name, request, tmp_path):
    save(request.getfixturevalue(name), tmp_path)
    codec, picture = load(tmp_path), image()
    data = codec.compress(picture)
    with default_dtype(torch.float64):
        again = load(tmp_path)
        assert again.compress(picture) == data
        assert torch.equal(again.decompress(data), codec.decompress(data))


def test_saving_what_was_loaded_changes_nothing(saved, tmp_path):
    save(load(saved), tmp_path / "again")
    assert metadata(tmp_path / "again") == metadata(saved)
    one, other = (load_file(directory / "model.safetensors") for directory in (saved, tmp_path / "again"))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    for file in ("config.yaml", "README.md"):
        assert (tmp_path / "again" / file).read_bytes() == (saved / file).read_bytes()


def test_the_directory_holds_three_plain_files(tiny_codec, saved):
    assert sorted(os.listdir(saved)) == sorted(FILES)
    assert OmegaConf.to_container(OmegaConf.load(saved / "config.yaml")) == {"format": FORMAT} | tiny_codec.arguments()
    stored = load_file(saved / "model.safetensors")
    assert stored.keys() == tiny_codec.state_dict().keys()
    assert all(is_halved(value) == (value.dtype == torch.float16) for value in stored.values())
    assert tiny_codec.fingerprint.hex() in (saved / "README.md").read_text()
    assert metadata(saved)["fingerprint"] == tiny_codec.fingerprint.hex()


def test_bounds_that_half_precision_has_not_are_kept(tmp_path):
    """As zero, that of a likelihood brought a training to infinity."""
    codec = load("mini-cgdm")
    save(codec, tmp_path)
    for one in (codec, load(tmp_path)):
        for model in (one.quantizer.prior, one.quantizer.gaussian):
            assert float(model.likelihood_lower_bound.bound) == pytest.approx(1e-9)


def test_the_model_card_can_be_given(tiny_codec, tmp_path):
    save(tiny_codec, tmp_path, card="# Mine\n")
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


def test_nothing_is_unpickled(saved, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something was unpickled")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refuse)
    assert load(saved).compress(image())


def test_a_pickle_in_place_of_the_weights_is_refused(tiny_codec, saved):
    torch.save(tiny_codec.state_dict(), saved / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load(saved)


@pytest.mark.parametrize("size", [0, 100, -1])
def test_truncated_weights_are_refused(saved, size):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load(saved)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interrupted_save_keeps_the_old_codec(tiny_codec, saved, monkeypatch, error):
    before = contents(saved)

    def interrupted(state, path, metadata):
        path.write_bytes(b"half")
        raise error("interrupted")

    monkeypatch.setattr("safetensors.torch.save_file", interrupted)
    with pytest.raises(error, match="interrupted"):
        save(tiny_codec, saved, card="# New\n")
    assert contents(saved) == before


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("encoder.init_args.widht", 3, "codec.encoder.*Option 'widht' is not accepted"),
        ("encodr", 3, "codec: Option 'encodr' is not accepted; Codec takes autoencoder, encoder"),
        ("encoder.class_path", "ulcompress.autoencoders.KLAutoencoder", "codec.encoder.*not .* a subclass of Encoder"),
        ("encoder.init_args.width", "wide", "codec.encoder.*wide"),
        ("encoder.init_args.stride", 24, r"stride must be one of \[8, 16, 32, 64\]"),
    ],
)
def test_a_wrong_key_or_value_is_named(saved, key, value, message):
    edit_config(saved, key, value)
    with pytest.raises(ValueError, match=message):
        load(saved)


@pytest.mark.parametrize("text", ["autoencoder: [1", "- 1", "a: ${b}", "a: !!python/object/apply:os.getpid []"])
def test_a_configuration_that_cannot_be_read_is_named(saved, text):
    (saved / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        load(saved)


def test_a_missing_part_is_named(tiny_codec):
    config = tiny_codec.arguments()
    del config["quantizer"]
    with pytest.raises(ValueError, match=r"required.*codec\.quantizer"):
        build(config)


@pytest.mark.parametrize("file", FILES[:2])
def test_a_missing_file_is_named(saved, file):
    (saved / file).unlink()
    with pytest.raises(ValueError, match=f"{file} does not exist"):
        load(saved)


def test_a_missing_model_card_is_no_reason_to_refuse(saved):
    (saved / "README.md").unlink()
    assert load(saved).compress(image())


def test_weights_that_do_not_fit_are_named(saved):
    edit_config(saved, "quantizer.init_args.codebook_size", 17)
    with pytest.raises(ValueError, match=r"do not fit the codec's parts: .*quantizer\.(usage|sums|entropy\.counts)"):
        load(saved)


def test_a_missing_weight_is_named(saved):
    state = load_file(saved / "model.safetensors")
    del state["quantizer.sums"]
    save_file(state, saved / "model.safetensors")
    with pytest.raises(ValueError, match=r"do not fit the codec's parts: .*quantizer\.(usage|sums)"):
        load(saved)


def test_an_unknown_name_says_what_would_do():
    with pytest.raises(ValueError, match=r"no codec 'nothing': .*give a bundled codec .* hub:organisation/name"):
        load("nothing")


def test_bundled_codecs_are_found_by_name_alone(saved, monkeypatch):
    monkeypatch.setattr("ulcompress.pretrained.location.BUNDLED", saved.parent)
    assert locate("codec") == saved
    with pytest.raises(ValueError, match=r"give a bundled codec \(codec\)"):
        locate("../codec")


def test_export_takes_the_codec_out_of_a_checkpoint(tiny_codec, tmp_path):
    state = {f"codec.{name}": value for name, value in tiny_codec.state_dict().items()}
    content = {"hyper_parameters": {"codec": tiny_codec.arguments()}, "state_dict": state | {"other": torch.ones(1)}}
    torch.save(content, tmp_path / "last.ckpt")
    export(tmp_path / "last.ckpt", tmp_path / "codec")
    assert load(tmp_path / "codec").fingerprint == tiny_codec.fingerprint


def test_export_refuses_what_is_no_checkpoint_of_a_codec(tmp_path):
    with pytest.raises(ValueError, match=r"no checkpoint '.*missing\.ckpt'"):
        export(tmp_path / "missing.ckpt", tmp_path / "codec")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"holds no codec; give a checkpoint of CodecModule"):
        export(tmp_path / "other.ckpt", tmp_path / "codec")
    assert not (tmp_path / "codec").exists()


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "garbage.ckpt").write_bytes(b"no checkpoint at all")
    with pytest.raises(ValueError, match=r"garbage\.ckpt' is no checkpoint that can be read safely"):
        export(tmp_path / "garbage.ckpt", tmp_path / "codec")
    with pytest.raises(ValueError, match=r"no checkpoint '.*missing\.ckpt'; train that stage first"):
        export(tmp_path / "missing.ckpt", tmp_path / "codec")


def test_a_saved_codec_can_be_read_by_others(tiny_codec, tmp_path):
    save(tiny_codec, tmp_path / "codec")
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "codec").iterdir()}
    assert len(modes) == 1


@torch.no_grad()
def test_a_context_model_is_saved_and_reads_what_the_codec_in_memory_wrote(tiny_staged_codec, tmp_path):
    entropy = ContextModel(width=8)
    quantizer = ResidualQuantizer(
        codebook_sizes=[16, 8], blocks=[2, 1], channels=8, dimension=4, entropy=entropy, rate_weight=0.01
    )
    for head in entropy.heads:
        torch.nn.init.normal_(head.weight, std=2.0)
    parts = {name: getattr(tiny_staged_codec, name) for name in ("autoencoder", "encoder", "decoder")}
    codec = Codec(**parts, quantizer=quantizer, conditioning={"spatial": SpatialFeatures()}).eval()
    data = codec.compress(image())
    save(codec, tmp_path)
    loaded = load(tmp_path)
    assert loaded.arguments() == codec.arguments()
    assert loaded.compress(image()) == data
    torch.testing.assert_close(loaded.decompress(data), codec.decompress(data), atol=0.01, rtol=0)
    assert load(tmp_path, encoder_only=True).compress(image()) == data


def test_a_codec_without_decoder_is_saved_as_one(tiny_codec, saved, tmp_path):
    encoder = load(saved, encoder_only=True)
    save(encoder, tmp_path / "encoder")
    again = load(tmp_path / "encoder")
    assert again.fingerprint == tiny_codec.fingerprint and again.arguments()["decoder"] is None
    assert again.compress(image()) == encoder.compress(image())
    with pytest.raises(ValueError, match="loaded without its decoder"):
        again.decompress(again.compress(image()))


@pytest.mark.parametrize("content", [b"encoder:\n  width: 3\n", b"RIFF\x24\x00\x00\x00WEBPVP8 ", b"\x80\x02}q\x00."])
def test_any_other_file_is_no_checkpoint(content, tmp_path):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(ValueError, match=r"other' is no (Lightning )?checkpoint"):
        read_checkpoint(tmp_path / "other")


def test_an_encoder_alone_keeps_its_fingerprint_in_any_mode(tiny_codec, saved):
    codec = load(saved, encoder_only=True)
    assert codec.train().eval().fingerprint == codec.eval().fingerprint == tiny_codec.fingerprint


def test_what_a_directory_states_is_the_fingerprint_of_its_codec(saved):
    """Whatever the code computes of the names that its parameters have by now."""
    weights = saved / "model.safetensors"
    save_file(load_file(weights), weights, metadata={"fingerprint": "abcdef"})
    assert load(saved).fingerprint == load(saved, encoder_only=True).fingerprint == bytes.fromhex("abcdef")


def test_a_codec_whose_file_does_not_tell_its_fingerprint_compresses(tiny_codec, saved):
    path = saved / "model.safetensors"
    save_file(load_file(path), path)
    codec = load(saved, encoder_only=True)
    assert codec.fingerprint == load(saved).fingerprint == tiny_codec.fingerprint


@pytest.mark.parametrize("name", ["hub:no/such", "no/such"])
def test_no_network_is_one_line(name):
    """In a process of its own: the model hub's address is read once."""
    source = (
        f"from ulcompress.foundation import hub; hub.snapshot({name!r}, revision=None, patterns=['*'], files=['x'])"
    )
    if name.startswith("hub:"):
        source = f"from ulcompress.pretrained import locate; locate({name!r})"
    script = f"try:\n    {source}\nexcept ValueError as error:\n    print('told:', error)"
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.stdout.startswith("told:") and len(result.stdout.splitlines()) == 1, result.stderr[-2000:]


def test_nothing_is_computed_of_weights_that_are_not_there_yet(tmp_path, monkeypatch, compressai):
    """CompressAI refused to make tables of what the memory held, now and then."""
    model = CompressAIModel(name="bmshj2018-factorized", sizes=(8, 8))
    codec = Codec(
        autoencoder=PixelSpace(),
        encoder=AnalysisTransform(model=model),
        quantizer=StringQuantizer(model=model),
        conditioning={"base": SynthesisTransform(model=model)},
        decoder=BaseReconstruction(),
    )
    save(codec.eval(), tmp_path)

    def refuse(self):
        raise AssertionError("tables were made of weights that were not loaded")

    monkeypatch.setattr(StringQuantizer, "_make_tables", refuse)
    for encoder_only in (False, True):
        assert load(tmp_path, encoder_only=encoder_only).compress(image())

"""What makes a training faster or smaller leaves its results as they are."""

import copy

import pytest
import torch

from ulcompress.denoisers import Denoiser
from ulcompress.losses import FeatureDistance
from ulcompress.training import Acceleration, AutoencoderModule, CodecLoss, CodecModule

IMAGES = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
PLAIN = Acceleration(channels_last=False)
CHOICES = {
    "channels last": Acceleration(),
    "checkpointing": Acceleration(channels_last=False, checkpointing=True),
    "compile": Acceleration(channels_last=False, compile="aot_eager"),
    "all": Acceleration(checkpointing=True, compile="aot_eager"),
}


@pytest.fixture(params=["tiny_codec", "tiny_staged_codec", "tiny_guided_codec"])
def codec(request):
    codec = request.getfixturevalue(request.param)
    torch.manual_seed(0)
    with torch.no_grad():  # layers that start at zero would hide differences
        for parameter in codec.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return codec


def step(codec, squeezenet, acceleration):
    """Return the loss of a batch, and the gradients."""
    loss = CodecLoss(perceptual=FeatureDistance(weights=squeezenet), weights={"rate/spatial": 2.0, "rate/syntax": 2.0})
    module = CodecModule(codec=copy.deepcopy(codec), loss=loss, acceleration=acceleration)
    module.setup("fit")
    torch.manual_seed(1)
    captions = ["a red cup"] * len(IMAGES) if codec.takes_captions else [None] * len(IMAGES)
    output = module.codec(IMAGES, captions)
    total = module.loss.total(module.loss(module.codec, IMAGES, output), 0)
    total.backward()
    return total.detach(), {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # the compiler of torch 2.13 looks
@pytest.mark.parametrize("acceleration", CHOICES.values(), ids=CHOICES)
def test_loss_and_gradients_are_the_same(codec, squeezenet, acceleration):
    loss, gradients = step(codec, squeezenet, PLAIN)
    found, others = step(codec, squeezenet, acceleration)
    torch.testing.assert_close(found, loss, rtol=1e-4, atol=1e-5)
    assert others.keys() == gradients.keys()
    for name, gradient in gradients.items():
        size = float(gradient.abs().max())
        torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-3 * size + 1e-7, msg=name)


def test_checkpointing_keeps_fewer_activations(tiny_codec, tiny_guided_codec):
    def kept(codec):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            codec(IMAGES)
        return sum(sizes)

    for codec in (tiny_codec, tiny_guided_codec):
        for part in (codec.encoder, codec.autoencoder):
            part.requires_grad_(False)
        before = kept(codec)
        codec.decoder.denoiser.checkpoint_activations()
        assert kept(codec) < 0.9 * before


def test_the_denoiser_is_compiled(tiny_codec, squeezenet, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: compiled.append((self, options)))
    module = CodecModule(codec=tiny_codec, acceleration=CHOICES["compile"])
    module.setup("fit")
    assert compiled == [(tiny_codec.decoder.denoiser, {"backend": "aot_eager"})]


def test_weights_keep_their_names_and_are_recorded_the_same_way(tiny_codec):
    module = CodecModule(codec=tiny_codec, acceleration=CHOICES["all"])
    names = list(module.state_dict())
    module.setup("fit")
    assert list(module.state_dict()) == names
    kept = {"channels_last": True, "checkpointing": True, "compile": "aot_eager", "latents": None}
    assert module.hparams["acceleration"] == kept


def test_what_cannot_be_accelerated_is_one_clear_line(tiny_codec):
    with pytest.raises(ValueError, match=r"must be a backend of torch\.compile: .*inductor.*; got 'inducter'"):
        Acceleration(compile="inducter")
    module = AutoencoderModule(autoencoder=tiny_codec.autoencoder, acceleration=Acceleration(checkpointing=True))
    with pytest.raises(ValueError, match="of a denoiser, and there is none"):
        module.setup("fit")

    class Other(Denoiser):
        def forward(self, noisy, times, condition, context):
            return noisy

    with pytest.raises(ValueError, match="Other has no gradient checkpointing"):
        Other().checkpoint_activations()


def test_latents_are_encoded_once_and_equal_to_the_bit(tiny_codec, tmp_path, monkeypatch):
    expected = tiny_codec.autoencoder.encode(IMAGES)
    CodecModule(codec=tiny_codec, acceleration=Acceleration(latents=str(tmp_path / "latents.db"))).setup("fit")
    encoded, encode = [], tiny_codec.autoencoder.encode
    monkeypatch.setattr(tiny_codec.autoencoder, "encode", lambda images: encoded.append(len(images)) or encode(images))
    first = tiny_codec.autoencoder.latent(IMAGES[:3])
    again = tiny_codec.autoencoder.latent(IMAGES)
    assert encoded == [3, 1]
    torch.testing.assert_close(again, expected)
    assert torch.equal(again[:3], first)


def test_latents_of_another_autoencoder_are_refused(tiny_codec, tmp_path):
    file = tmp_path / "latents.db"
    for _ in range(2):
        CodecModule(codec=tiny_codec, acceleration=Acceleration(latents=str(file))).setup("fit")
        tiny_codec.autoencoder.latent(IMAGES)
    with torch.no_grad():
        next(tiny_codec.autoencoder.parameters()).add_(1)
    CodecModule(codec=tiny_codec, acceleration=Acceleration(latents=str(file))).setup("fit")
    with pytest.raises(ValueError, match=r"latents\.db holds latents of another autoencoder; name another file"):
        tiny_codec.autoencoder.latent(IMAGES)


def test_latents_are_not_kept_where_the_autoencoder_learns(tiny_codec, tmp_path):
    module = CodecModule(codec=tiny_codec, acceleration=Acceleration(latents=str(tmp_path / "latents.db")))
    tiny_codec.autoencoder.requires_grad_(True)
    with pytest.raises(ValueError, match="of an autoencoder that does not change"):
        module.setup("fit")


def test_a_file_that_is_no_cache_of_latents_is_refused_in_one_line(tiny_codec, tmp_path):
    file = tmp_path / "latents.db"
    file.write_text("not a database, but long enough to be looked at" * 99)
    CodecModule(codec=tiny_codec, acceleration=Acceleration(latents=str(file))).setup("fit")
    with pytest.raises(ValueError, match=r"latents\.db cannot keep latents: file is not a database"):
        tiny_codec.autoencoder.latent(IMAGES)

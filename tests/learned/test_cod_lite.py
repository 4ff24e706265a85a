import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

import ulcompress
from ulcompress.commands.main import run
from ulcompress.learned import importing
from ulcompress.learned.catalogue import COD_LITE_GRIDS, PUBLISHED
from ulcompress.learned.cod_lite import CODEBOOK, ENCODER, CodLite, _Attention

SIZES = {"channels": 32, "widths": (32, 32, 64), "hidden": 64, "pixel_width": 4, "blocks": 2}


@pytest.fixture
def cod_lite(tmp_path, monkeypatch, one_thread):
    """Return a function that writes a small file in the published layout, and returns it and its weights."""
    monkeypatch.setattr(importing, "CodLite", partial(CodLite, **SIZES))
    monkeypatch.setenv("ULCOMPRESS_CACHE", str(tmp_path / "cache"))

    def write(rate):
        stride, size = COD_LITE_GRIDS[rate]
        with torch.random.fork_rng():
            torch.manual_seed(2)
            model = CodLite(stride=stride, **SIZES)
            state = {ENCODER + key: value for key, value in model.analysis().state_dict().items()}
            state |= {f"net.{key}": value for key, value in model.synthesis().state_dict().items()}
            state = {key: torch.randn_like(value) / value[0].numel() ** 0.5 for key, value in state.items()}
            state[CODEBOOK] = torch.randn(size, SIZES["channels"])
        unused = {"net.s_embedder.proj1.weight": torch.ones(128, 3, 16, 16), "disc.weight": torch.ones(1)}
        torch.save({"module": state | unused}, tmp_path / "published.pt")
        return tmp_path / "published.pt", state

    return write


def cosines(py, px):
    waves = [8 * index / 7 for index in range(8)]
    return [math.cos(math.pi * px * fx) * math.cos(math.pi * py * fy) / (1 + fx * fy) for fx in waves for fy in waves]


POSITIONS = torch.tensor([cosines(row / 15, column / 15) for row in range(16) for column in range(16)])
"""Features of the place of each pixel of a patch, row by row."""


class Table:
    """The published networks, function by function, from the table of their layers."""

    def __init__(self, state, stride):
        self.w, self.stride = state, stride

    def conv(self, x, name, **options):
        return F.conv2d(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], **options)

    def linear(self, x, name):
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def norm(self, x, name):
        return F.group_norm(x, 32, self.w[f"{name}.weight"], self.w[f"{name}.bias"], eps=1e-6)

    def res(self, x, name):
        y = self.conv(F.silu(self.norm(x, f"{name}.norm1")), f"{name}.conv1", padding=1)
        y = self.conv(F.silu(self.norm(y, f"{name}.norm2")), f"{name}.conv2", padding=1)
        return y + (self.conv(x, f"{name}.nin_shortcut") if f"{name}.nin_shortcut.weight" in self.w else x)

    def attention(self, x, name):
        q, k, v = (self.conv(self.norm(x, f"{name}.norm"), f"{name}.{part}").flatten(2) for part in "qkv")
        weights = (q.transpose(1, 2) @ k / math.sqrt(x.shape[1])).softmax(-1)
        return x + self.conv((v @ weights.transpose(1, 2)).view(x.shape), f"{name}.proj_out")

    def chain(self, x, name, kinds):
        for index, kind in enumerate(kinds):
            x = {"r": self.res, "a": self.attention, "d": self.down}[kind](x, f"{name}.{index}")
        return x

    def down(self, x, name):
        return self.conv(F.pad(x, (0, 1, 0, 1)), f"{name}.conv", stride=2)

    def encode(self, image):
        net = "net.y_embedder.encoder"
        x = self.conv(image, f"{net}.conv_in", stride=2, padding=1)
        for level, least in enumerate((4, 8, 16, 32)):
            x = self.chain(x, f"{net}.down_block_{level}", "rrd" if self.stride >= least else "rr")
        x = self.chain(self.chain(x, f"{net}.down_block_4", "rara"), f"{net}.mid_block", "rar")
        return self.conv(F.silu(self.norm(x, f"{net}.norm_out")), f"{net}.conv_out", padding=1)

    def condition(self, features):
        net = "net.y_embedder.decoder"
        x = self.chain(self.conv(features, f"{net}.conv_in", padding=1), f"{net}.block", "rarar")
        x = F.silu(self.norm(x, f"{net}.norm_out"))
        if self.stride == 4:
            x = self.res(self.conv(x, f"{net}.conv_out.0", stride=2, padding=1), f"{net}.conv_out.1")
            return self.conv(x, f"{net}.conv_out.2", stride=2, padding=1)
        x = self.conv(x, f"{net}.conv_out", padding=1, stride=2 if self.stride == 8 else 1)
        if self.stride == 32:
            x = self.res(x.repeat_interleave(2, -1).repeat_interleave(2, -2), f"{net}.ada.block")
        return x

    def block(self, s, c, name):
        modulation = self.linear(F.silu(c), f"{name}.adaLN_modulation.1")[0]
        shift, scale, gate, shift2, scale2, gate2 = modulation.view(6, 1, -1, 1, 1)

        def normed(x):
            return (x - x.mean(1, True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()

        x = self.conv(normed(s) * (1 + scale) + shift, f"{name}.conv1")
        x = F.gelu(self.conv(x, f"{name}.conv2", padding=1, groups=x.shape[1]))
        x = x * self.conv(x.mean((2, 3), True), f"{name}.ca.1").sigmoid()
        s = s + gate * self.conv(x, f"{name}.conv3")
        x = F.gelu(self.conv(normed(s) * (1 + scale2) + shift2, f"{name}.conv4"))
        return s + gate2 * self.conv(x, f"{name}.conv5")

    def decode(self, features):
        cond = self.condition(features)
        time = torch.cat([torch.ones(1, 128), torch.zeros(1, 128)], 1)
        c = self.linear(F.silu(self.linear(time, "net.t_embedder.mlp.0")), "net.t_embedder.mlp.2")
        s = self.conv(
            torch.cat([torch.zeros_like(cond[:, :1]).expand(-1, 128, -1, -1), cond], 1), "net.s_embedder.proj2"
        )
        for index in range(SIZES["blocks"]):
            s = self.block(s, c, f"net.blocks.{index}")
        width, image = SIZES["pixel_width"], torch.zeros(1, 3, 16 * cond.shape[2], 16 * cond.shape[3])
        own = self.conv(cond, "net.y_embedder_x")
        for row in range(cond.shape[2]):
            for column in range(cond.shape[3]):
                pixels = self.pixels(own[0, :, row, column].view(width, 256).T, s[0, :, row, column])
                image[0, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = pixels.T.view(3, 16, 16)
        return (image + 1) / 2

    def pixels(self, own, s):
        x = torch.cat([torch.zeros(256, 3), own, POSITIONS], 1)
        x = self.linear(self.linear(x, "net.x_embedder.embedder.0"), "net.dec_net.input_proj")
        y = self.linear(s, "net.dec_net.cond_embed").view(256, -1)
        for index in range(3):
            name = f"net.dec_net.res_blocks.{index}"
            shift, scale, gate = self.linear(F.silu(y), f"{name}.adaLN_modulation.1").chunk(3, 1)
            inner = F.layer_norm(x, x.shape[1:], self.w[f"{name}.in_ln.weight"], self.w[f"{name}.in_ln.bias"], 1e-6)
            inner = self.linear(inner * (1 + scale) + shift, f"{name}.mlp.0")
            x = x + gate * self.linear(F.silu(inner), f"{name}.mlp.2")
        x = x / (x.square().mean(1, True) + 1e-6).sqrt() * self.w["net.final_layer.norm.weight"]
        return self.linear(x, "net.final_layer.linear")


@torch.no_grad()
@pytest.mark.parametrize("rate", ["0.0039", "0.0156", "0.1250", "0.5000"])
def test_features_indices_and_pixels_are_those_of_the_table(rate, cod_lite):
    file, state = cod_lite(rate)
    codec = importing._cod_lite(PUBLISHED[f"cod-lite-{rate}"], file).eval()
    table, image = Table(state, codec.stride), torch.rand(1, 3, 64, 32)
    expected = table.encode(image)
    features = codec.encoder(image, image)
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)
    symbols = codec.quantizer(features).symbols
    nearest = torch.cdist(expected.flatten(2)[0].T, state[CODEBOOK]).argmin(1)
    assert torch.equal(symbols.indices[0].flatten(), nearest) and (len(nearest.unique()) > 1 or codec.stride == 32)
    quantized = codec.quantizer.dequantize(symbols)
    torch.testing.assert_close(quantized, state[CODEBOOK][nearest].T.view(expected.shape))
    restored = codec.conditioning["base"].network(quantized)
    torch.testing.assert_close(restored, table.decode(quantized), atol=1e-4, rtol=1e-4)
    assert restored.std() > 0.01


@pytest.mark.parametrize(
    ("stride", "entries", "parameters"), [(32, 539, 102.0), (16, 529, 98.8), (8, 527, 98.2), (4, 535, 102.0)]
)
def test_the_published_layout_is_the_default(stride, entries, parameters):
    """With the codebook and the embedding of a noisy image, which a codec does not need."""
    with torch.device("meta"):
        model = CodLite(stride=stride)
        states = model.analysis().state_dict(), model.synthesis().state_dict()
    assert sum(map(len, states)) + 2 == entries
    count = sum(value.numel() for state in states for value in state.values()) + 128 * 3 * 16**2 + 256 * 128
    assert count / 1e6 == pytest.approx(parameters, abs=0.05)


@torch.no_grad()
def test_attention_stays_within_windows_of_a_large_map():
    attention, map_ = _Attention(32), torch.randn(1, 32, 40, 20)
    whole = attention(map_)
    assert whole.shape == map_.shape
    map_[..., 33:, :] = 0
    attention.norm = torch.nn.Identity()
    before = attention(map_)
    map_[..., 33:, 3] = 1
    changed = (attention(map_) != before).any(1)[0].any(1)
    assert changed.tolist() == [False] * 32 + [True] * 8


def test_the_import_codes_images_of_any_size_without_noise(cod_lite, tmp_path, capsys):
    file, _ = cod_lite("0.1250")
    assert run(["import", "cod-lite-0.1250", str(file), str(tmp_path / "out")]) == 0, capsys.readouterr().err
    file.unlink()
    codec = ulcompress.load("cod-lite-0.1250")
    for size in ((64, 80), (65, 90)):
        image = torch.rand(3, *size)
        data = codec.compress(image)
        restored = codec.decompress(data, seed=1)
        assert restored.shape == image.shape and torch.equal(restored, codec.decompress(data, seed=2))
        positions = math.ceil(size[0] / 8) * math.ceil(size[1] / 8)
        assert codec.stream_bits(data)["spatial"] == pytest.approx(8 * positions, abs=0.1), "as long as published"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("net.blocks.1.ca.1.weight"), r"net\.blocks\.1\.ca\.1\.weight is missing"),
        (lambda state: state.pop(ENCODER + "conv_in.bias"), r"encoder\.conv_in\.bias is missing"),
        (lambda state: state.update({"net.blocks.2.conv1.bias": torch.ones(64)}), r"blocks\.2\.conv1\.bias has no pl"),
        (lambda state: state.pop(CODEBOOK), "has no codebook net.y_embedder.bottleneck.embedding.weight"),
        (lambda state: state.update({CODEBOOK: torch.ones(16, 32)}), r"codebook is \(16, 32\), not \(256, 32\)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(change, message, cod_lite):
    file, state = cod_lite("0.0312")
    change(state)
    torch.save(state, file)
    with pytest.raises(ValueError, match=message):
        importing._cod_lite(PUBLISHED["cod-lite-0.0312"], file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bpp": 0.2}, r"CoD-Lite has the rates 0\.0039, .*, got 0\.2"),
        ({"stride": 64}, "stride must be one of 4, 8, 16, 32, got 64"),
        ({"weights": "file"}, "weights 'file' need the rate"),
        ({"widths": (32, 32)}, r"widths must be three, got \[32, 32\]"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CodLite(**arguments)


def test_there_is_no_hyperprior():
    with pytest.raises(ValueError, match="use ResidualQuantizer"):
        CodLite(**SIZES).hyperprior()

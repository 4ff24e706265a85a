"""The layout of published weights, written anew at tiny size with random weights."""

import pytest
import torch
from torch import nn


class Norm(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(1 + torch.rand(1, n, 1, 1)), nn.Parameter(torch.randn(1, n, 1, 1))

    def forward(self, x):
        return self.gamma * (x - x.mean(1, True)) / (x.var(1, True) + 0.001).sqrt() + self.beta


def stage(kind, a, b, **options):
    return nn.Sequential(kind(a, b, 3, stride=2, padding=1, **options), Norm(b), nn.ReLU())


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        convolutions = nn.Conv2d(n, n, 3, padding=1), nn.Conv2d(n, n, 3, padding=1)
        self.sequence = nn.Sequential(convolutions[0], Norm(n), nn.ReLU(), convolutions[1], Norm(n))

    def forward(self, x):
        return x + self.sequence(x)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, 4, 7, padding=3), Norm(4), nn.ReLU())
        stages = [stage(nn.Conv2d, n, n + 1) for n in (4, 5, 6, 7)]
        self.blocks = nn.Sequential(first, *stages, nn.Conv2d(8, 6, 3, padding=1))

    def forward(self, x):
        return self.blocks(x)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.block_0 = nn.Sequential(Norm(6), nn.Conv2d(6, 8, 3, padding=1), Norm(8))
        self.resid_blocks = nn.Sequential(Block(8), Block(8))
        stages = [stage(nn.ConvTranspose2d, n, n - 1, output_padding=1) for n in (8, 7, 6, 5)]
        self.blocks = nn.Sequential(*stages, nn.Conv2d(4, 3, 7, padding=3))

    def forward(self, x):
        first = self.block_0(x)
        return self.blocks(first + self.resid_blocks(first))


def up(a, b):
    return nn.ConvTranspose2d(a, b, 5, stride=2, padding=2, output_padding=1)


class Illm(nn.Module):
    def __init__(self, models):
        super().__init__()
        self.encoder, self.decoder = Encoder(), Generator()
        down = [nn.Conv2d(10, 10, 5, stride=2, padding=2) for _ in range(2)]
        self.hyper_analysis = nn.Sequential(nn.Conv2d(6, 10, 3, padding=1), nn.ReLU(), down[0], nn.ReLU(), down[1])
        for name in ("mean", "scale"):
            layers = up(10, 10), nn.ReLU(), up(10, 10), nn.ReLU(), nn.Conv2d(10, 6, 3, padding=1)
            setattr(self, f"hyper_synthesis_{name}", nn.Sequential(*layers))
        self.hyper_bottleneck, self.latent_bottleneck = models.EntropyBottleneck(10), models.GaussianConditional(None)


@pytest.fixture
def authors(one_thread, compressai):
    """A small MS-ILLM with random weights, its tables filled."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = Illm(compressai.entropy_models)
    model.hyper_bottleneck.update()
    return model


@pytest.fixture
def illm_file(authors, tmp_path):
    """A file of its weights as CompressAI named them when MS-ILLM was published."""
    state = authors.state_dict()
    for new, old in (("matrices.", "_matrix"), ("biases.", "_bias"), ("factors.", "_factor")):
        state = {key.replace(f"bottleneck.{new}", f"bottleneck.{old}"): value for key, value in state.items()}
    torch.save(state, tmp_path / "msillm.ckpt")
    return tmp_path / "msillm.ckpt"


@pytest.fixture
def illm_sizes():
    """The arguments of an `MSILLM` of the size of that model."""
    return {"widths": [4, 5, 6, 7, 8], "channels": 6, "hyper_channels": 10, "blocks": 2}

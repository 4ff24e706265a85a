import pytest
import torch

from ulcompress.decoders import DiffusionDecoder
from ulcompress.denoisers import ConsistencyEncoder, GuidedUNet, UNet
from ulcompress.diffusion import (
    BaseEstimate,
    BoundaryControl,
    ContinuousSchedule,
    DiscreteSchedule,
    DPMSolver,
    LinearEstimate,
    Objective,
)
from ulcompress.records import Condition

OBJECTIVE = {"schedule", "diffused", "prediction", "error", "min_snr", "terminal_share", "scheduled_sampling", "draws"}


def decoder_of(denoiser, estimate, defaults, arguments):
    """Return a decoder; arguments of the objective are taken out of the decoder's."""
    options = defaults | arguments
    objective = Objective(**{name: options.pop(name) for name in OBJECTIVE & options.keys()})
    return DiffusionDecoder(denoiser=denoiser, objective=objective, estimate=estimate, **options).eval()


def awake(decoder):
    """Give layers that begin at zero random weights."""
    for parameter in decoder.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return decoder


@pytest.fixture
def latent_diffusion(one_thread):
    """Return a maker of a tiny decoder of PerCo's shape with random weights, the same each time."""

    def make(**arguments):
        torch.manual_seed(0)
        denoiser = UNet(maps={"spatial": 3}, text_channels=8, syntax_channels=5, widths=(32, 32), head_channels=8)
        return decoder_of(denoiser, None, {"steps": 2}, arguments)

    return make


@pytest.fixture
def consistency_guided(one_thread):
    """Return a maker of a tiny decoder of CGDM's shape whose sides are multiples of 4; `network` goes to the denoiser.

    Layers that begin at zero have random weights, unless `untrained`.
    """

    def make(*, network=None, consistency=True, added=True, untrained=False, **arguments):
        torch.manual_seed(0)
        sizes = {"widths": (8, 12), "patch_size": 2}
        branch = ConsistencyEncoder(**sizes) if consistency else None
        options = {**sizes, "blocks": 1, "syntax_channels": 5, "text_channels": 8} | (network or {})
        denoiser = GuidedUNet(**options, consistency=branch)
        cosine = {"schedule": DiscreteSchedule(beta_schedule="squaredcos_cap_v2"), "prediction": "sample"}
        defaults = {**cosine, "min_snr": 5.0, "steps": 2, "boundary": BoundaryControl(patch=256, overlap=64)}
        decoder = decoder_of(denoiser, BaseEstimate(added=added), defaults, arguments)
        return decoder if untrained else awake(decoder)

    return make


@pytest.fixture
def residual_flow(one_thread):
    """Return a maker of a tiny decoder that diffuses what is missing to a linear estimate, on a straight path."""

    def make(**arguments):
        torch.manual_seed(0)
        maps = {"estimate": 4, "spatial": 3}
        sizes = {"widths": (8, 12), "patch_size": 2}
        branch = ConsistencyEncoder(channels=7, **sizes)
        denoiser = GuidedUNet(channels=4, maps=maps, consistency=branch, **sizes, syntax_channels=5, text_channels=8)
        estimate = LinearEstimate(spatial_channels=3, channels=4)
        flow = {"schedule": ContinuousSchedule(), "diffused": "residual", "prediction": "sample", "error": "velocity"}
        return awake(decoder_of(denoiser, estimate, {**flow, "sampler": DPMSolver(), "steps": 2}, arguments))

    return make


@pytest.fixture
def condition_for():
    """Return a maker of all that a decoder accepts: text of 4 tokens, of which 3 count; base in [0, 1]."""

    def make(decoder, shape, *, count=1, text=True):
        generator = torch.Generator().manual_seed(shape[0] + 100 * shape[1])

        def draw(*sizes):
            return torch.randn(count, *sizes, generator=generator)

        fields = {
            "spatial": draw(3, *(side // 2 for side in shape)),
            "base": draw(3, *shape).mul(0.25).add(0.5).clamp(0, 1),
            "syntax": draw(5),
        }
        if text:
            mask = torch.tensor([[True, True, True, False]] * count)
            fields |= {"text": draw(4, 8), "text_mask": mask, "text_null": draw(1, 8)}
        return Condition(**{name: value for name, value in fields.items() if name in decoder.accepts})

    return make

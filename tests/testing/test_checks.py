"""What each check must catch, and parts from elsewhere that pass."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from ulcompress import testing
from ulcompress.autoencoders import PixelSpace
from ulcompress.coding.arithmetic import SymbolTable
from ulcompress.conditioning import Conditioner
from ulcompress.decoders import BaseReconstruction
from ulcompress.denoisers import ConsistencyEncoder, GuidedUNet
from ulcompress.diffusion import DDIM, BaseEstimate, ContinuousSchedule
from ulcompress.encoders import Encoder
from ulcompress.entropy import StaticEntropy
from ulcompress.functional.straight_through import straight_through
from ulcompress.losses import PerceptualDistance
from ulcompress.quantizers import Quantizer
from ulcompress.records import Condition, Quantized

# Parts as somebody else would write them.


class SignQuantizer(Quantizer):
    """Keeps the signs of a few projected channels."""

    def __init__(self, *, channels=6, signs=4):
        super().__init__()
        self.channels, self.signs = channels, signs
        self.project_in = nn.Conv2d(channels, signs, 1)
        self.project_out = nn.Conv2d(signs, channels, 1)
        self.entropy = StaticEntropy()
        self.entropy.build(2)

    def forward(self, features):
        projected = self.project_in(features)
        symbols = (projected.detach() > 0).long()
        if self.training:
            self.entropy.observe(symbols)
        quantized = self.project_out(straight_through(projected, 2.0 * symbols - 1))
        return Quantized(quantized, symbols, self.entropy.bits(symbols))

    def dequantize(self, symbols):
        return self.project_out(2.0 * symbols - 1)

    def write(self, symbols, coder):
        self.entropy.write(symbols, coder)

    def read(self, coder, grid):
        return self.entropy.read(coder, (self.signs, *grid))


class Patches(Encoder):
    """One convolution over patches of the image."""

    def __init__(self, *, stride=16, channels=5):
        super().__init__()
        self.stride, self.channels = stride, channels
        self.network = nn.Conv2d(3, channels, stride, stride=stride)

    def forward(self, image, latent):
        return self.network(image)


class Brightness(Conditioner):
    """Sends the mean of each image in a byte."""

    provides = frozenset({"brightness"})
    sends = True
    TABLE = SymbolTable.uniform(256)

    def channels(self, features):
        return {"brightness": 1}

    def encode(self, source, condition):
        return (255 * source.image.mean((1, 2, 3))).round().long()[:, None]

    def nothing(self):
        return torch.zeros(1, 1, dtype=torch.int64)

    def bits(self, side):
        return torch.full((len(side),), 8.0)

    def write(self, side, coder):
        self.TABLE.encode(int(side), coder)

    def read(self, coder):
        return torch.tensor([[self.TABLE.decode(coder)]])

    def forward(self, side, features, condition):
        return condition.with_(brightness=side / 255)


class PixelDistance(PerceptualDistance):
    """The mean absolute difference."""

    name = "pixels"

    def __init__(self):
        super().__init__()
        self.freeze()

    def forward(self, image, reference):
        return (image - reference).abs().mean((1, 2, 3))


class Denoising(GuidedUNet):
    """A tiny denoiser of all fields."""

    def __init__(self):
        sizes = {"widths": (8, 12), "patch_size": 2}
        branch = ConsistencyEncoder(channels=5, **sizes)
        maps = {"estimate": 4, "edges": 1}
        super().__init__(
            channels=4, maps=maps, consistency=branch, blocks=1, syntax_channels=5, text_channels=8, **sizes
        )


STRANGERS = {
    testing.check_quantizer: SignQuantizer,
    testing.check_encoder: Patches,
    testing.check_conditioner: Brightness,
    testing.check_distance: PixelDistance,
    testing.check_denoiser: Denoising,
}


@pytest.mark.parametrize("check", STRANGERS, ids=lambda check: check.__name__)
def test_a_part_from_elsewhere_passes(one_thread, check):
    check(STRANGERS[check]())


# Parts that do not keep their contract.


class InexactQuantizer(SignQuantizer):
    def dequantize(self, symbols):
        return super().dequantize(symbols) + 1e-6


class MisreadQuantizer(SignQuantizer):
    def read(self, coder, grid):
        return 1 - super().read(coder, grid)


class UnlearnedQuantizer(SignQuantizer):
    def forward(self, features):
        return super().forward(features.detach())


class CheapQuantizer(SignQuantizer):
    def forward(self, features):
        quantized = super().forward(features)
        return Quantized(quantized.features, quantized.symbols, quantized.bits / 2)


class BatchQuantizer(SignQuantizer):
    def forward(self, features):
        return super().forward(features - features.mean(0, keepdim=True) * (len(features) > 1))


class AnyRateQuantizer(SignQuantizer):
    def check_rate(self, rate):
        pass


class RestlessQuantizer(SignQuantizer):
    def forward(self, features):
        quantized = super().forward(features)
        self.entropy.observe(quantized.symbols)
        return quantized


class FloatQuantizer(SignQuantizer):
    def forward(self, features):
        quantized = super().forward(features)
        return Quantized(quantized.features, quantized.symbols.float(), quantized.bits)


class UndeclaredQuantizer(SignQuantizer):
    def forward(self, features):
        quantized = super().forward(features)
        return Quantized(quantized.features, quantized.symbols, quantized.bits, {"size": features.square().mean()})


class ForgetfulQuantizer(SignQuantizer):
    def arguments(self):
        return {"channels": 6, "signs": 3}


class RandomAutoencoder(PixelSpace):
    def encode(self, image):
        return super().encode(image) + torch.randn_like(image)


class CoarseAutoencoder(PixelSpace):
    stride = 2


class GreyAutoencoder(PixelSpace):
    def decode(self, latent):
        return 0 * super().decode(latent)


class BatchAutoencoder(PixelSpace):
    def encode(self, image):
        return super().encode(image) - image.mean()


class RandomEncoder(Patches):
    def forward(self, image, latent):
        return super().forward(image + torch.randn_like(image), latent)


class BatchEncoder(Patches):
    def forward(self, image, latent):
        return super().forward(image - image.mean(), latent)


class SmallEncoder(Patches):
    def __init__(self):
        super().__init__()
        self.channels = 6


class IdleEncoder(Patches):
    def __init__(self):
        super().__init__()
        self.idle = nn.Linear(2, 2)


class MisreadEntropy(StaticEntropy):
    def read(self, coder, shape):
        return super().read(coder, shape) // 2


class CheapEntropy(StaticEntropy):
    def bits(self, symbols):
        return super().bits(symbols) - 20


class EagerEntropy(StaticEntropy):
    def bits(self, symbols):
        return torch.zeros(len(symbols)) if self.counts is None else super().bits(symbols)


class LastingEntropy(StaticEntropy):
    def build(self, alphabet):
        super().build(alphabet)
        self.built = getattr(self, "built", 0) + 1
        self.counts[0] *= self.built


class MisreadConditioner(Brightness):
    def read(self, coder):
        return super().read(coder) + 1


class FreeConditioner(Brightness):
    def bits(self, side):
        return torch.zeros(len(side))


class SilentConditioner(Brightness):
    sends = False


class UndeclaredConditioner(Brightness):
    def forward(self, side, features, condition):
        return super().forward(side, features, condition).with_(syntax=side.float())


class DroppingConditioner(Brightness):
    def forward(self, side, features, condition):
        return super().forward(side, features, Condition())


class BatchConditioner(Brightness):
    def forward(self, side, features, condition):
        return super().forward(side - side.float().mean(), features, condition)


class WideConditioner(Brightness):
    def channels(self, features):
        return {"brightness": 2}


class TextContextDenoiser(Denoising):
    def context(self, condition):
        text = 0 if condition.text is None else condition.text.mean()
        return [features + text for features in super().context(condition)]


class TimelessDenoiser(Denoising):
    def forward(self, noisy, times, condition, context):
        return super().forward(noisy, 0 * times, condition, context)


class BatchDenoiser(Denoising):
    def forward(self, noisy, times, condition, context):
        return super().forward(noisy - noisy.mean(0, keepdim=True), times, condition, context)


class CroppingDenoiser(Denoising):
    def forward(self, noisy, times, condition, context):
        return super().forward(noisy, times, condition, context)[..., 1:]


class UnmaskedDenoiser(Denoising):
    def forward(self, noisy, times, condition, context):
        return super().forward(noisy, times, condition.with_(text_mask=None), context)


class RandomDecoder(BaseReconstruction):
    def sample(self, condition, shape, sampling):
        return super().sample(condition, shape, sampling) + torch.randn(shape)


class DeafDecoder(BaseReconstruction):
    def loss(self, target, condition):
        return super().loss(target.requires_grad_(), condition.with_(base=condition.base.detach()))


class GreyDecoder(BaseReconstruction):
    def sample(self, condition, shape, sampling):
        return torch.zeros(1, 3, *shape)


class SmallDecoder(BaseReconstruction):
    def sample(self, condition, shape, sampling):
        return super().sample(condition, shape, sampling)[..., ::2, ::2]


class RandomEstimate(BaseEstimate):
    def forward(self, condition):
        return super().forward(condition) + torch.randn(())


class DetachedEstimate(BaseEstimate):
    def forward(self, condition):
        return super().forward(condition.with_(base=condition.base.detach())).requires_grad_()


class BatchEstimate(BaseEstimate):
    def forward(self, condition):
        return super().forward(condition) - condition.base.mean()


class WideEstimate(BaseEstimate):
    channels = 4


class SlowEstimate(BaseEstimate):
    prepared = False


class ForgetfulEstimate(BaseEstimate):
    shown = 0

    @property
    def prepared(self):
        return self.shown > 0

    def prepare(self, batches):
        self.shown = len(list(batches))


class HastySampler(DDIM):
    def sample(self, schedule, denoise, noisy, steps, *, start=1.0):
        return super().sample(schedule, denoise, noisy, steps, start=start) + 0.1 * noisy


class RandomSampler(DDIM):
    def sample(self, schedule, denoise, noisy, steps, *, start=1.0):
        return super().sample(schedule, denoise, noisy, steps, start=start) + 1e-4 * torch.randn_like(noisy)


class DetachedSampler(DDIM):
    def sample(self, schedule, denoise, noisy, steps, *, start=1.0):
        return super().sample(schedule, denoise, noisy, steps, start=start).detach().requires_grad_()


class OneStepSampler(DDIM):
    def sample(self, schedule, denoise, noisy, steps, *, start=1.0):
        return super().sample(schedule, denoise, noisy, 1, start=start)


class TolerantSampler(DDIM):
    def sample(self, schedule, denoise, noisy, steps, *, start=1.0):
        return super().sample(schedule, denoise, noisy, max(steps, 1), start=start)


class ReversedSchedule(ContinuousSchedule):
    def coefficients(self, levels):
        return super().coefficients(levels)[::-1]


class SlowSchedule(ContinuousSchedule):
    def times(self, levels):
        return super().times(levels) / 2


class EarlySchedule(ContinuousSchedule):
    def draw(self, count, device, start=1.0):
        return super().draw(count, device)


class ShortSchedule(ContinuousSchedule):
    def sampling_levels(self, steps, start=1.0):
        return super().sampling_levels(steps, start)[:3]


class TolerantSchedule(ContinuousSchedule):
    def highest(self, start=1.0):
        return float(start)


class SignedDistance(PixelDistance):
    def forward(self, image, reference):
        return (image - reference).mean((1, 2, 3))


class OneSidedDistance(PixelDistance):
    def forward(self, image, reference):
        return (image - reference).relu().mean((1, 2, 3))


class BatchDistance(PixelDistance):
    def forward(self, image, reference):
        return super().forward(image, reference).mean().expand(len(image))


class RootDistance(PixelDistance):
    def forward(self, image, reference):
        return (image - reference).square().mean((1, 2, 3)).sqrt()


class LearningDistance(PixelDistance):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))


BROKEN = {
    InexactQuantizer: "dequantizes symbols to other features than its forward pass gave",
    MisreadQuantizer: "reads other symbols than it wrote",
    UnlearnedQuantizer: "passes no gradient to the features",
    CheapQuantizer: "estimates .* bits but writes",
    BatchQuantizer: "quantises an image differently beside others",
    AnyRateQuantizer: "takes the rate 0 though it has the rates 1 to 1",
    RestlessQuantizer: "changes its entropy.counts in evaluation mode",
    FloatQuantizer: "has floats among its symbols",
    UndeclaredQuantizer: "returns the loss terms size, which its `loss_terms` do not name",
    ForgetfulQuantizer: r"cannot be built again from its config\(\)",
    RandomAutoencoder: "encodes one image to two latents",
    CoarseAutoencoder: r"makes a latent of \(2, 3, 2, 2\) from \(2, 3, 2, 2\)",
    GreyAutoencoder: "decodes two different latents to the same image",
    BatchAutoencoder: "encodes an image differently beside others",
    RandomEncoder: "gives one image two maps of features",
    BatchEncoder: "encodes an image differently beside others",
    SmallEncoder: r"its channels and stride say \(2, 6, 1, 1\)",
    IdleEncoder: "passes no gradient to idle.weight",
    MisreadEntropy: "reads other symbols than it wrote",
    CheapEntropy: "estimates .* bits but writes",
    EagerEntropy: "estimates bits before it knows its alphabet",
    LastingEntropy: "remembers after build",
    MisreadConditioner: "reads other side information than it wrote",
    FreeConditioner: "estimates 0.0 bits but writes 8.0",
    SilentConditioner: "writes bytes though it says that it sends nothing",
    UndeclaredConditioner: r"sets \['brightness', 'syntax'\] though it provides \['brightness'\]",
    DroppingConditioner: "replaces or drops kept",
    BatchConditioner: "gives an image another brightness beside others",
    WideConditioner: "says that brightness has 2 channels, but forward sets 1",
    TextContextDenoiser: "has a context that depends on the text",
    TimelessDenoiser: "predicts the same whatever the time is",
    BatchDenoiser: "predicts something else for a sample beside others",
    CroppingDenoiser: r"predicts \(3, 4, 4, 3\) for x_t of \(3, 4, 4, 4\)",
    UnmaskedDenoiser: "looks at text tokens that the mask leaves out",
    RandomDecoder: "samples another image from the same seed",
    DeafDecoder: "passes no gradient to base",
    GreyDecoder: "samples the same whatever base is",
    SmallDecoder: r"samples \(1, 3, 1, 1\) where \(1, 3, 2, 2\) was asked for",
    RandomEstimate: "estimates two things from one condition",
    SlowEstimate: "is not prepared after `prepare`",
    ForgetfulEstimate: "is not prepared once it is built again",
    DetachedEstimate: "passes no gradient to base",
    BatchEstimate: "is another for an image beside others",
    WideEstimate: r"is \(2, 3, 2, 3\) for a target of \(2, 4, 2, 3\)",
    HastySampler: "does not end at the clean sample in 1 steps",
    RandomSampler: "gives two samples for the same noise",
    DetachedSampler: "passes no gradient to the network",
    OneStepSampler: "does not come near the solution",
    TolerantSampler: "takes 0 steps",
    ReversedSchedule: "has a signal that does not fall",
    SlowSchedule: "shows denoisers the times",
    EarlySchedule: "draws levels from",
    ShortSchedule: "has 3 sampling levels for 5 steps",
    TolerantSchedule: "takes 0.0 as a share of the process",
    SignedDistance: "between different images; it must be positive",
    OneSidedDistance: "is another when the two images are swapped",
    BatchDistance: "is another for an image beside others",
    RootDistance: "has a gradient that is not finite for equal images",
    LearningDistance: "lets weight be trained",
}
"""What its check says of each."""
CHECKS = {
    "Quantizer": testing.check_quantizer,
    "Autoencoder": testing.check_autoencoder,
    "Encoder": testing.check_encoder,
    "Entropy": testing.check_entropy_model,
    "Conditioner": testing.check_conditioner,
    "Denoiser": testing.check_denoiser,
    "Decoder": testing.check_decoder,
    "Estimate": testing.check_estimate,
    "Sampler": testing.check_sampler,
    "Schedule": testing.check_schedule,
    "Distance": testing.check_distance,
}
"""By the last word of a class's name."""


def check_of(kind):
    return next(check for word, check in CHECKS.items() if kind.__name__.endswith(word))


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_part_is_caught(one_thread, kind):
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=BROKEN[kind]) as caught:
        check_of(kind)(kind())
    message = str(caught.value)
    assert message.startswith(f"{kind.__name__} ") and "\n" not in message


def test_every_check_catches_three_parts_at_least():
    caught = [check_of(kind) for kind in BROKEN]
    assert set(CHECKS.values()) == {getattr(testing, name) for name in testing.__all__}
    assert all(caught.count(check) >= 3 for check in CHECKS.values())


def test_a_check_leaves_the_part_and_the_random_numbers_as_they_are():
    quantizer = SignQuantizer()
    before, state = copy.deepcopy(quantizer.state_dict()), torch.random.get_rng_state()
    testing.check_quantizer(quantizer)
    assert quantizer.training
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_checks_need_no_pytest():
    files = list(Path(testing.__file__).parent.glob("*.py"))
    assert len(files) > 11 and not any("pytest" in file.read_text() for file in files)

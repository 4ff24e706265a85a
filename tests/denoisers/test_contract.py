import inspect

import jsonargparse
import pytest
import torch

from ulcompress import denoisers
from ulcompress.denoisers import ConsistencyEncoder, Denoiser, GuidedUNet, UNet
from ulcompress.records import Condition

SIZES = {"widths": (8, 12), "patch_size": 2}
GUIDED = {"channels": 4, "blocks": 1, "syntax_channels": 5, "text_channels": 8}
DENOISERS = {
    "UNet": lambda: UNet(
        maps={"estimate": 4, "edges": 1}, text_channels=8, syntax_channels=5, widths=(32, 32), head_channels=8
    ),
    "GuidedUNet": lambda: GuidedUNet(
        maps={"estimate": 4, "edges": 1}, consistency=ConsistencyEncoder(channels=5, **SIZES), **SIZES, **GUIDED
    ),
    "GuidedUNet without its branch": lambda: GuidedUNet(maps={"spatial": 3}, **SIZES, **GUIDED),
}
TIMES = torch.tensor([5, 500, 999])


@pytest.fixture(params=DENOISERS)
def denoiser(request, one_thread):
    """A denoiser of latents of 4 channels with random weights, also where layers begin at zero."""
    torch.manual_seed(0)
    network = DENOISERS[request.param]()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def inputs_for(denoiser, *, height=8, width=12):
    """Return x_t and a condition of three samples with all that the denoiser takes."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(3, *shape, generator=generator)

    mask = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
    fields = {name: draw(channels, height, width) for name, channels in denoiser.condition_channels.items()}
    fields |= {"text": draw(3, 8), "text_mask": mask, "syntax": draw(5)}
    return draw(4, height, width), Condition().with_(**fields)


def predict(denoiser, noisy, condition, times=TIMES):
    return denoiser(noisy, times, condition, denoiser.context(condition))


def test_every_class_is_here():
    exported = (getattr(denoisers, name) for name in denoisers.__all__)
    classes = {c for c in exported if inspect.isclass(c) and issubclass(c, Denoiser)}
    assert {c for c in classes if not inspect.isabstract(c)} == {UNet, GuidedUNet}


def test_what_it_requires_has_channels(denoiser):
    assert denoiser.requires <= denoiser.condition_channels.keys()
    assert denoiser.condition_channels.keys() - denoiser.requires <= {"text"}


@torch.no_grad()
@pytest.mark.parametrize("scale", [(1, 1), (2, 3), (4, 1)])
def test_the_prediction_has_the_shape_of_x_t(denoiser, scale):
    height, width = (4 * factor for factor in scale)
    assert 4 % denoiser.multiple == 0
    noisy, condition = inputs_for(denoiser, height=height, width=width)
    prediction = predict(denoiser, noisy, condition)
    assert prediction.shape == noisy.shape and prediction.isfinite().all()


@torch.no_grad()
def test_a_context_serves_all_steps(denoiser):
    noisy, condition = inputs_for(denoiser)
    context = denoiser.context(condition)
    before = [features.clone() for features in context]
    for times in (TIMES, TIMES.flip(0)):
        kept = denoiser(noisy, times, condition, context)
        assert torch.equal(kept, predict(denoiser, noisy, condition, times))
    assert all(torch.equal(one, other) for one, other in zip(context, before, strict=True)), "it is not changed"


@torch.no_grad()
def test_a_context_does_not_depend_on_the_text(denoiser):
    _, condition = inputs_for(denoiser)
    without = condition.with_(text=None, text_mask=None)
    pairs = zip(denoiser.context(condition), denoiser.context(without), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@torch.no_grad()
def test_nothing_depends_on_the_batch(denoiser):
    noisy, condition = inputs_for(denoiser)
    together, context = predict(denoiser, noisy, condition), denoiser.context(condition)
    for row in range(3):
        rows = torch.tensor([row])
        part = condition.of(rows)
        torch.testing.assert_close(predict(denoiser, noisy[rows], part, TIMES[rows])[0], together[row])
        kept = denoiser(noisy[rows], TIMES[rows], part, [features[rows] for features in context])
        torch.testing.assert_close(kept[0], together[row])


def test_a_gradient_reaches_x_t_and_the_whole_condition(denoiser):
    noisy, condition = inputs_for(denoiser)
    tracked = {"noisy": noisy} | {name: condition[name] for name in condition.provided - {"text_mask"}}
    for value in tracked.values():
        value.requires_grad_()
    predict(denoiser, noisy, condition).square().sum().backward()
    for name, value in tracked.items():
        assert value.grad is not None and value.grad.isfinite().all() and value.grad.any(), name


def test_every_parameter_is_trained(denoiser):
    noisy, condition = inputs_for(denoiser)
    predict(denoiser, noisy, condition).square().sum().backward()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@torch.no_grad()
def test_x_t_the_time_and_every_field_change_the_prediction(denoiser):
    noisy, condition = inputs_for(denoiser)
    prediction = predict(denoiser, noisy, condition)
    different = {"noisy": predict(denoiser, -noisy, condition), "times": predict(denoiser, noisy, condition, TIMES - 4)}
    for name in condition.provided - {"text_mask"}:
        different[name] = predict(denoiser, noisy, condition.with_(**{name: -condition[name]}))
    for name, other in different.items():
        assert not torch.allclose(other, prediction, atol=1e-5), name


@torch.no_grad()
def test_a_missing_text_or_syntax_is_one_of_zeros(denoiser):
    noisy, condition = inputs_for(denoiser)
    zeros = condition.with_(text=torch.zeros(3, 1, 8), text_mask=None, syntax=torch.zeros(3, 5))
    none = condition.with_(text=None, text_mask=None, syntax=None)
    assert torch.equal(predict(denoiser, noisy, none), predict(denoiser, noisy, zeros))


@torch.no_grad()
def test_text_that_the_mask_leaves_out_does_not_count(denoiser):
    noisy, condition = inputs_for(denoiser)
    changed = condition.with_(text=condition.text + 9 * ~condition.text_mask[..., None])
    torch.testing.assert_close(predict(denoiser, noisy, changed), predict(denoiser, noisy, condition))


@torch.no_grad()
def test_a_configuration_builds_an_equal_denoiser(denoiser):
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--denoiser", type=Denoiser)
    again = parser.instantiate(parser.parse_object({"denoiser": denoiser.config()})).denoiser
    again.load_state_dict(denoiser.state_dict())
    assert again.config() == denoiser.config()
    noisy, condition = inputs_for(denoiser)
    assert torch.equal(predict(again.eval(), noisy, condition), predict(denoiser, noisy, condition))

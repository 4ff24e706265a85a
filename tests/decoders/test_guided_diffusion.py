import jsonargparse
import pytest
import torch

from ulcompress.decoders import Decoder, DiffusionDecoder
from ulcompress.denoisers import ConsistencyEncoder, GuidedUNet
from ulcompress.diffusion import BaseEstimate, BoundaryControl, DiffusersSampler, DiscreteSchedule, Objective
from ulcompress.diffusion.noise import gaussian_canvas
from ulcompress.records import Condition, Sampling

VARIANTS = {
    "all": {},
    "without syntax": {"syntax_channels": None, "fusion": "static"},
    "concatenated": {"fusion": "concatenate"},
    "without text": {"text_channels": None},
    "without attention": {"text_channels": None, "attention": False},
    "without consistency": {"consistency": False},
    "concatenated without consistency": {"consistency": False, "fusion": "concatenate"},
    "static without consistency": {"consistency": False, "fusion": "static"},
}
PATCHES = BoundaryControl(patch=8, overlap=4)


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def variant(request, consistency_guided):
    network = dict(request.param)
    return consistency_guided(consistency=network.pop("consistency", True), network=network)


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
@pytest.mark.parametrize("shape", [(8, 12), (21, 10)])
def test_an_untrained_decoder_returns_the_base(consistency_guided, condition_for, steps, shape):
    decoder = consistency_guided(untrained=True)
    condition = condition_for(decoder, shape)
    assert torch.equal(decoder.sample(condition, shape, Sampling(seed=1, steps=steps)), 2 * condition.base - 1)


def test_no_steps_return_the_base(consistency_guided, condition_for):
    for decoder in (consistency_guided(), consistency_guided(added=False), consistency_guided(steps=0)):
        condition = condition_for(decoder, (8, 8))
        assert torch.equal(decoder.sample(condition, (8, 8), Sampling(seed=1, steps=0)), 2 * condition.base - 1)
    assert torch.equal(decoder.sample(condition, (8, 8), Sampling(seed=1)), 2 * condition.base - 1)


def test_every_variant_trains_all_that_it_has(variant, condition_for):
    condition = condition_for(variant, (16, 16), count=8)
    variant.train().loss(torch.rand(8, 3, 16, 16), condition).losses["diffusion"].backward()
    for name, parameter in variant.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_every_variant_samples(variant, condition_for):
    condition = condition_for(variant, (12, 9))
    sample = variant.sample(condition, (12, 9), Sampling(seed=1))
    assert sample.shape == (1, 3, 12, 9)
    assert sample.isfinite().all()
    assert not torch.allclose(sample, 2 * condition.base - 1, atol=1e-4)


def test_it_accepts_what_its_network_takes(consistency_guided):
    assert consistency_guided().accepts == {"base", "syntax", "text", "text_mask", "text_null"}
    assert consistency_guided(network={"text_channels": None}).accepts == {"base", "syntax"}
    assert consistency_guided(network={"text_channels": None, "fusion": "static"}).accepts == {"base"}


def test_a_missing_syntax_is_a_vector_of_zeros(consistency_guided, condition_for):
    decoder = consistency_guided()
    condition = condition_for(decoder, (8, 8))
    zero, none = (condition.with_(syntax=syntax) for syntax in (torch.zeros(1, 5), None))
    assert torch.equal(decoder.sample(none, (8, 8), Sampling(seed=1)), decoder.sample(zero, (8, 8), Sampling(seed=1)))


def test_training_brings_back_the_contrast_of_a_faded_base(consistency_guided):
    decoder = consistency_guided(untrained=True, network={"text_channels": None, "fusion": "static"}, start=0.5)
    images = torch.rand(8, 3, 4, 4).repeat_interleave(2, -1).repeat_interleave(2, -2)
    condition = Condition(base=0.5 * images + 0.25)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        decoder.loss(2 * images - 1, condition).losses["diffusion"].backward()
        optimizer.step()
    one = Condition(base=condition.base[:1])
    with torch.no_grad():
        errors = [
            (decoder.sample(one, (8, 8), Sampling(seed=1, steps=steps)) / 2 + 0.5 - images[:1]).square().mean()
            for steps in (0, 2)
        ]
    assert errors[1] < 0.5 * errors[0]


def test_features_are_computed_once_a_patch(consistency_guided, condition_for):
    decoder = consistency_guided(boundary=PATCHES)
    seen = []
    decoder.denoiser.consistency.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    condition = condition_for(decoder, (12, 16))
    decoder.sample(condition, (12, 16), Sampling(seed=1, steps=5, guidance=2.0))
    base = 2 * condition.base - 1
    parts = [base[..., top : top + 8, left : left + 8] for top in (0, 4) for left in (0, 4, 8)]
    assert len(seen) == len(parts)
    assert all(torch.equal(one, other) for one, other in zip(seen, parts, strict=True))


def test_kept_features_do_not_change_the_sample(consistency_guided, condition_for):
    decoder = consistency_guided(boundary=PATCHES)
    condition, noise = condition_for(decoder, (12, 16)), gaussian_canvas((1, 3, 12, 16), 1)
    base = 2 * condition.base - 1

    def denoise(noisy, times):
        def in_one(rows, columns):
            part = condition.with_(base=None, estimate=base[..., rows, columns])
            anew = decoder.denoiser.context(part)
            return decoder.denoiser(noisy[..., rows, columns], times, part, anew)

        return base + PATCHES.merge(in_one, 12, 16)

    sample = decoder.sampler.sample(decoder.objective.schedule, denoise, noise, 3)
    assert torch.equal(decoder.sample(condition, (12, 16), Sampling(seed=1, steps=3)), sample)


def test_the_patches_share_one_state(consistency_guided, condition_for):
    whole, patched = consistency_guided(), consistency_guided(boundary=PATCHES)
    for shape, same in (((8, 8), True), ((5, 7), True), ((8, 12), False)):
        condition = condition_for(whole, shape)
        one, other = (decoder.sample(condition, shape, Sampling(seed=1)) for decoder in (whole, patched))
        assert torch.equal(one, other) == same


@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (9, 11)])
def test_sides_need_not_be_multiples(consistency_guided, condition_for, shape):
    decoder = consistency_guided(boundary=PATCHES)
    condition = condition_for(decoder, shape)
    assert decoder.sample(condition, shape, Sampling(seed=1)).shape == (1, 3, *shape)
    denoised = decoder.loss(torch.rand(1, 3, *shape), condition)
    assert denoised.estimate.shape == (1, 3, *shape)
    assert denoised.losses["diffusion"].isfinite()


def test_the_padding_is_no_part_of_the_loss(consistency_guided, condition_for):
    decoder = consistency_guided(untrained=True, min_snr=None)
    condition = condition_for(decoder, (9, 9))
    target = torch.rand(1, 3, 9, 9)
    expected = (2 * condition.base - 1 - target).square().mean()
    torch.testing.assert_close(decoder.loss(target, condition).losses["diffusion"], expected)


@torch.no_grad()
def test_sampling_starts_from_the_base_under_noise(consistency_guided, condition_for):
    decoder = consistency_guided(start=0.3)
    condition, noise, times = condition_for(decoder, (8, 8)), gaussian_canvas((1, 3, 8, 8), 7), torch.tensor([299])
    base = 2 * condition.base - 1
    noisy = decoder.objective.schedule.noisy(base, noise, times)
    seen = condition.with_(estimate=base)
    estimate = base + decoder.denoiser(noisy, times, seen, decoder.denoiser.context(seen))
    torch.testing.assert_close(decoder.sample(condition, (8, 8), Sampling(seed=7, steps=1)), estimate)


@pytest.mark.parametrize(
    "start, training_levels, expected",
    [(1.0, 4, {249, 499, 749, 999}), (0.5, 4, {124, 249, 374, 499}), (0.01, 1000, set(range(10)))],
)
def test_training_draws_no_times_after_the_start(consistency_guided, condition_for, start, training_levels, expected):
    schedule = DiscreteSchedule(beta_schedule="squaredcos_cap_v2", training_levels=training_levels)
    decoder = consistency_guided(start=start, schedule=schedule)
    drawn = []
    decoder.denoiser.register_forward_pre_hook(lambda _, inputs: drawn.extend(inputs[1].tolist()))
    decoder.loss(torch.rand(200, 3, 4, 4), condition_for(decoder, (4, 4), count=200))
    assert set(drawn) == expected


def test_terminal_share_trains_at_the_start(consistency_guided, condition_for):
    decoder = consistency_guided(start=0.5, terminal_share=1.0)
    drawn = []
    decoder.denoiser.register_forward_pre_hook(lambda _, inputs: drawn.extend(inputs[1].tolist()))
    decoder.loss(torch.rand(5, 3, 4, 4), condition_for(decoder, (4, 4), count=5))
    assert drawn == [499] * 5


def test_the_loss_is_weighed_by_the_clipped_ratio(consistency_guided, condition_for):
    def loss(**arguments):
        schedule = DiscreteSchedule(beta_schedule="squaredcos_cap_v2", training_levels=2)
        decoder = consistency_guided(untrained=True, start=0.5, schedule=schedule, terminal_share=1.0, **arguments)
        return decoder.loss(target, condition).losses["diffusion"].item()

    condition = condition_for(consistency_guided(), (8, 8), count=4)
    target = torch.rand(4, 3, 8, 8)
    plain, clipped = loss(min_snr=None), loss(min_snr=0.25)
    assert clipped == pytest.approx(0.25 * plain), "half way through the cosine schedule the ratio is about one"


def test_other_predictions_work_without_the_residual(consistency_guided, condition_for):
    decoder = consistency_guided(schedule=DiscreteSchedule(), prediction="v_prediction", added=False)
    condition = condition_for(decoder, (8, 8))
    assert decoder.sample(condition, (8, 8), Sampling(seed=0)).isfinite().all()
    assert decoder.loss(torch.rand(1, 3, 8, 8), condition).losses["diffusion"].isfinite()


def refused(message, *, denoiser=None, objective=None, **arguments):
    denoiser = denoiser or {"consistency": ConsistencyEncoder(widths=(8, 8), patch_size=2)}
    with pytest.raises(ValueError, match=message):
        DiffusionDecoder(
            denoiser=GuidedUNet(widths=(8, 8), patch_size=2, blocks=1, **denoiser),
            objective=Objective(**objective or {"prediction": "sample"}),
            **{"estimate": BaseEstimate()} | arguments,
        )


def test_networks_that_do_not_fit_are_refused():
    refused(
        r"ConsistencyEncoder has widths=\(8, 12\) but the GuidedUNet that it guides needs widths=\(8, 8\)",
        denoiser={"consistency": ConsistencyEncoder(widths=(8, 12), patch_size=2)},
    )
    refused(
        "ConsistencyEncoder has patch_size=4 but the GuidedUNet that it guides needs patch_size=2",
        denoiser={"consistency": ConsistencyEncoder(widths=(8, 8))},
    )
    refused(
        "ConsistencyEncoder has channels=3 but the GuidedUNet that it guides needs channels=5",
        denoiser={"consistency": ConsistencyEncoder(widths=(8, 8), patch_size=2), "maps": {"estimate": 3, "edges": 2}},
    )
    refused("GuidedUNet takes an estimate of its target, but the decoder has none", estimate=None)
    refused("multiple of 4, which GuidedUNet halves.*got 10", boundary=BoundaryControl(patch=10, overlap=2))


def test_options_that_contradict_are_refused():
    refused("terminal_share to 0, min_snr to null", objective={"terminal_share": 0.1, "min_snr": 5.0})
    for start in (0.0, 1.1):
        refused(f"at most 1, of 1000 levels, got {start}", start=start)


def test_a_configuration_builds_an_equal_decoder(consistency_guided, condition_for):
    decoder = consistency_guided(boundary=PATCHES, start=0.5)
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--decoder", type=Decoder)
    again = parser.instantiate(parser.parse_object({"decoder": decoder.config()})).decoder
    again.load_state_dict(decoder.state_dict())
    condition = condition_for(decoder, (12, 12))
    assert torch.equal(
        again.eval().sample(condition, (12, 12), Sampling(seed=1)),
        decoder.sample(condition, (12, 12), Sampling(seed=1)),
    )


@pytest.mark.parametrize("start", [1.0, 0.5])
def test_training_sees_what_sampling_will(consistency_guided, condition_for, start):
    """Every x_t that training draws is one of a real sampling in two steps with the same noise."""
    decoder = consistency_guided(scheduled_sampling=1.0, start=start, schedule=DiscreteSchedule(training_levels=2))
    schedule = decoder.objective.schedule
    condition = condition_for(decoder, (8, 8), count=6)
    seen = []
    decoder.denoiser.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[0], inputs[1])))
    torch.manual_seed(2)
    decoder.loss(2 * torch.rand(6, 3, 8, 8) - 1, condition)
    (first, _), (noisy, times) = seen
    torch.manual_seed(2)
    torch.rand(6, 3, 8, 8), schedule.draw(6, noisy.device, start), torch.rand(6)
    noise = torch.randn(6, 3, 8, 8)
    assert set(times.tolist()) == {schedule.highest(start), schedule.highest(start / 2)}
    later = times < schedule.highest(start)
    assert len(first) == later.sum() and not later[: len(first)].all(), "those of later steps are not the first ones"
    for row in range(6):
        seen.clear()
        decoder.boundary.noise_of = lambda *_, row=row: noise[row : row + 1]
        decoder.sample(condition.of(torch.tensor([row])), (8, 8), Sampling(seed=0, steps=2))
        torch.testing.assert_close(seen[int(later[row])][0][0], noisy[row], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": -3}, "steps must be 1 to 1000, got -3"),
        ({"steps": 600, "start": 0.5}, "steps must be 1 to 500, got 600"),
        ({"terminal_share": 7.0}, "terminal_share is a share"),
        ({"scheduled_sampling": -1.0}, "scheduled_sampling is a share"),
        ({"start": 0.5, "sampler": DiffusersSampler()}, "DiffusersSampler samples from pure noise only"),
    ],
)
def test_options_out_of_range_are_refused_when_it_is_built(consistency_guided, options, message):
    with pytest.raises(ValueError, match=message):
        consistency_guided(**options)


def test_a_noisy_target_is_the_estimate_s_where_sampling_starts(consistency_guided, condition_for):
    decoder = consistency_guided(start=0.3)
    condition = decoder.on_grid(condition_for(decoder, (8, 10)), (8, 10))
    schedule, seen = decoder.objective.schedule, {}
    for level in (schedule.highest(0.3), schedule.highest(0.2)):
        for value in (-1.0, 1.0):
            torch.manual_seed(0)
            seen[level, value] = decoder.noisy_target(torch.full((1, 3, 8, 10), value), condition, level)
        alpha, _ = schedule.coefficients(torch.tensor([level]))
        difference = seen[level, 1.0] - seen[level, -1.0]
        torch.testing.assert_close(
            difference[..., :10], torch.full((1, 3, 8, 10), 0.0 if level == 299 else 2 * float(alpha))
        )

import pytest
import torch

from ulcompress.losses import AdversarialLoss, ExportedDistance, FeatureDiscriminator, PatchDiscriminator


@pytest.fixture(params=["pixels", "features"])
def discriminator(request, network_file, one_thread):
    torch.manual_seed(0)
    if request.param == "pixels":
        return PatchDiscriminator(widths=(8, 8))
    return FeatureDiscriminator(network=ExportedDistance(file=network_file("two-maps")), width=8)


@pytest.fixture
def loss(discriminator):
    return AdversarialLoss(discriminator=discriminator)


def test_each_term_moves_its_own_side_alone(loss):
    restored, images = torch.rand(2, 2, 3, 32, 32)
    restored.requires_grad_()
    terms = loss(restored, images)
    (adversarial,) = torch.autograd.grad(terms["adversarial"], restored, retain_graph=True)
    assert adversarial.isfinite().all() and adversarial.any()
    named = {name: parameter for name, parameter in loss.named_parameters() if parameter.requires_grad}
    parameters = list(named.values())
    moved = torch.autograd.grad(terms["discriminator"], parameters, retain_graph=True)
    # Where no logit is beyond the hinge, what is added to all of them cancels.
    still = [name for name, gradient in zip(named, moved, strict=True) if not gradient.any()]
    assert all(name.endswith("bias") for name in still)
    assert torch.autograd.grad(terms["discriminator"], restored, allow_unused=True, retain_graph=True) == (None,)
    assert set(torch.autograd.grad(terms["adversarial"], parameters, allow_unused=True)) == {None}


def test_equals_the_hinge(loss):
    """In closed form, with the discriminator's own logits."""
    restored, images = torch.rand(2, 4, 3, 32, 32)
    terms = loss.eval()(restored, images)
    with torch.no_grad():
        pairs = list(zip(loss.discriminator(restored), loss.discriminator(images), strict=True))
    torch.testing.assert_close(terms["adversarial"], -sum(false.mean() for false, _ in pairs) / len(pairs))
    hinges = [(1 + false).clamp_min(0).mean() + (1 - true).clamp_min(0).mean() for false, true in pairs]
    torch.testing.assert_close(terms["discriminator"], sum(hinges) / len(pairs))


def test_the_discriminator_learns_and_is_followed(loss):
    """It learns that images are bright; who follows it gets brighter."""
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)
    for _ in range(40):
        dark, bright = 0.3 * torch.rand(4, 3, 32, 32), 0.7 + 0.3 * torch.rand(4, 3, 32, 32)
        optimizer.zero_grad()
        terms = loss(dark, bright)
        terms["discriminator"].backward()
        optimizer.step()
    assert terms["discriminator"] < 1
    dark.requires_grad_()
    loss(dark, bright)["adversarial"].backward()
    assert dark.grad.mean() < 0


def test_it_comes_in_over_its_ramp(one_thread):
    torch.manual_seed(0)
    loss = AdversarialLoss(discriminator=PatchDiscriminator(widths=(8,)), ramp_steps=4).eval()
    pair = torch.rand(2, 2, 3, 32, 32)
    values = torch.stack([loss(*pair)["adversarial"] for _ in range(6)]).detach()
    torch.testing.assert_close(values, values[-1] * torch.tensor([0, 0.25, 0.5, 0.75, 1, 1]))
    assert values[-1] != 0


def test_where_the_ramp_stands_is_part_of_the_state():
    loss, again = (AdversarialLoss(discriminator=PatchDiscriminator(widths=(8,)), ramp_steps=4) for _ in range(2))
    loss(*torch.rand(2, 2, 3, 32, 32))
    again.load_state_dict(loss.state_dict())
    assert again.steps == 1


def test_one_logit_for_every_eight_pixels_and_what_it_sees(one_thread):
    images = torch.rand(1, 3, 128, 128, requires_grad=True)
    (logits,) = PatchDiscriminator().eval()(images)
    assert logits.shape == (1, 1, 16, 16)
    logits[0, 0, 8, 8].backward()
    rows = images.grad.abs().amax((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 54


def test_a_discriminator_without_a_width_is_refused():
    with pytest.raises(ValueError, match="at least one width"):
        PatchDiscriminator(widths=())


def test_features_are_judged_map_by_map_at_one_size(two_maps, network_file):
    """The network is fixed; noise, on which its maps are measured, comes at unit deviation to what judges them."""
    discriminator = FeatureDiscriminator(network=ExportedDistance(file=network_file("two-maps")), width=8)
    images = torch.rand(2, 3, 128, 128)
    seen = []
    for head in discriminator.heads:
        head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    logits = discriminator(images)
    assert [each.shape for each in logits] == [(2, 1, 63, 63), (2, 1, 31, 31)]
    for given, own in zip(seen, two_maps(images), strict=True):
        assert given.square().mean().sqrt() == pytest.approx(1, rel=0.1)
        torch.testing.assert_close(given / given.square().mean().sqrt(), own / own.square().mean().sqrt())
    assert [each.shape for each in discriminator(torch.rand(1, 3, 5, 5))] == [(1, 1, 31, 31), (1, 1, 15, 15)]
    with pytest.raises(ValueError, match="the width of a FeatureDiscriminator must be at least 1, got 0"):
        FeatureDiscriminator(network=discriminator.network, width=0)


def test_a_network_that_sees_nothing_is_refused(two_maps, save_layers, tmp_path):
    two_maps.second.weight.zero_()
    two_maps.second.bias.zero_()
    network = ExportedDistance(file=save_layers(two_maps, tmp_path / "blind.safetensors"))
    with pytest.raises(ValueError, match="map 1 of blind distance is zero everywhere; give another network"):
        FeatureDiscriminator(network=network)

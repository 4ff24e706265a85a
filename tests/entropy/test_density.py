import pytest
import torch

from ulcompress.entropy.density import EntropyBottleneck, GaussianConditional


@pytest.fixture(autouse=True)
def same_numbers(one_thread):
    torch.manual_seed(0)


def both(compressai):
    """A density with lively weights, and CompressAI's of the same weights."""
    ours, theirs = EntropyBottleneck(4), compressai.entropy_models.EntropyBottleneck(4)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def test_names_of_weights_are_those_of_compressai(compressai):
    models = compressai.entropy_models
    pairs = [
        (EntropyBottleneck(4), models.EntropyBottleneck(4)),
        (GaussianConditional(smallest=0.11), models.GaussianConditional(None, scale_bound=0.11)),
    ]
    for ours, theirs in pairs:
        assert {key: (value.shape, value.dtype) for key, value in ours.state_dict().items()} == {
            key: (value.shape, value.dtype) for key, value in theirs.state_dict().items()
        }


def test_a_new_density_is_that_of_compressai(compressai):
    models = []
    for make in (EntropyBottleneck, compressai.entropy_models.EntropyBottleneck):
        torch.manual_seed(3)
        models.append(make(4).state_dict())
    assert all(torch.equal(models[0][key], value) for key, value in models[1].items())


def test_likelihoods_and_their_gradients_are_those_of_compressai(compressai):
    results = []
    for model, call in zip(both(compressai), (lambda m, x: m(x), lambda m, x: m(x, training=True)[1]), strict=True):
        x = torch.linspace(-40, 40, 2 * 4 * 3 * 5).view(2, 4, 3, 5).requires_grad_()
        torch.manual_seed(1)
        likelihood = call(model, x)
        likelihood.log2().sum().backward()
        results.append([likelihood, x.grad, *(each.grad for each in model.matrices), *(b.grad for b in model.biases)])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results, strict=True))


def test_the_loss_of_quantiles_is_that_of_compressai_and_reaches_them_alone(compressai):
    ours, theirs = both(compressai)
    for model in (ours, theirs):
        model.loss().backward()
    assert torch.equal(ours.loss(), theirs.loss())
    assert torch.equal(ours.quantiles.grad, theirs.quantiles.grad)
    assert all(parameter.grad is None for name, parameter in ours.named_parameters() if name != "quantiles")


def test_normal_likelihoods_and_their_gradients_are_those_of_compressai(compressai):
    ours = GaussianConditional(smallest=0.11)
    theirs = compressai.entropy_models.GaussianConditional(None, scale_bound=0.11)
    results = []
    for model in (ours, lambda *given: theirs(*given, training=True)[1]):
        x, scales, means = (torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(k)) for k in range(3))
        scales.requires_grad_()
        torch.manual_seed(1)
        likelihood = model(4 * x, scales, means)
        likelihood.log2().sum().backward()
        results.append((likelihood, scales.grad))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@torch.no_grad()
def test_a_density_sums_to_one():
    steps = torch.arange(-200.0, 201.0).expand(4, 1, -1)
    torch.testing.assert_close(EntropyBottleneck(4).likelihood(steps).sum(-1), torch.ones(4, 1))
    normal = GaussianConditional(smallest=0.11).likelihood(steps[0, 0], torch.full((401,), 3.0))
    assert float(normal.sum()) == pytest.approx(1)


@torch.no_grad()
def test_scales_below_the_smallest_count_as_that_one():
    model = GaussianConditional(smallest=0.5)
    likelihoods = [model.likelihood(torch.tensor([1.0]), torch.tensor([scale])) for scale in (-3.0, 0.1, 0.5)]
    assert likelihoods[0] == likelihoods[1] == likelihoods[2]

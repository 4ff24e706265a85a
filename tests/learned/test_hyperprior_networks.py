import pytest
import torch

from ulcompress.learned.compressai import HYPERPRIORS, CompressAIModel
from ulcompress.learned.divisive_normalization import DivisiveNormalization
from ulcompress.learned.hyperprior_networks import HyperpriorNetworks


@pytest.mark.parametrize("inverse", [False, True])
def test_the_normalisation_is_that_of_compressai(compressai, inverse, one_thread):
    torch.manual_seed(0)
    ours, theirs = DivisiveNormalization(6, inverse=inverse), compressai.layers.GDN(6, inverse=inverse)
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    ours.gamma.data.add_(0.2 * torch.randn(6, 6))  # some below the bound
    theirs.load_state_dict(ours.state_dict())
    results = []
    for layer in (ours, theirs):
        x = torch.linspace(-3, 3, 2 * 6 * 4 * 4).view(2, 6, 4, 4).requires_grad_()
        output = layer(x)
        output.square().sum().backward()
        results.append((output, x.grad, layer.beta.grad, layer.gamma.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
@pytest.mark.parametrize("name", HYPERPRIORS)
def test_the_networks_are_those_of_compressai(compressai, name, one_thread):
    torch.manual_seed(0)
    ours = HyperpriorNetworks(8, 6, means=name == "mbt2018-mean")
    theirs = CompressAIModel(name=name, sizes=(8, 6)).model()
    missing, unexpected = torch.nn.Module.load_state_dict(theirs, ours.state_dict(), strict=False)
    assert not unexpected and all(key.startswith("gaussian_conditional.") for key in missing)
    image, latent, hyper = torch.rand(1, 3, 64, 64), torch.randn(1, 6, 4, 4), torch.randn(1, 8, 2, 2)
    for network, given in {"g_a": image, "g_s": latent, "h_a": latent, "h_s": hyper}.items():
        torch.testing.assert_close(getattr(ours, network)(given), getattr(theirs, network)(given))

import pytest
import torch

from ulcompress.denoisers.fusion import FUSIONS, STEERED, SyntaxFusion


def fusion_of(name, *, consistency=True, identity=False):
    torch.manual_seed(0)
    fusion = SyntaxFusion(6, fusion=name, syntax_channels=3, consistency=consistency)
    if identity:
        torch.nn.init.dirac_(fusion.output.weight)
    return fusion


@pytest.fixture
def maps(one_thread):
    torch.manual_seed(1)
    return torch.randn(2, 6, 4, 5), torch.randn(2, 6, 4, 5)


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("consistency", [True, False])
def test_it_starts_as_the_identity(maps, name, consistency):
    a, e = maps
    fused = fusion_of(name, consistency=consistency)(a, e if consistency else None, torch.randn(2, 3))
    assert torch.equal(fused, a)


@torch.no_grad()
def test_constants_of_zero_weigh_both_maps_alike(maps):
    a, e = maps
    fusion = fusion_of("static", identity=True)
    torch.testing.assert_close(fusion(a, e, None), a + fusion.mixed((a + fusion.aligned(e)) / 2))


@torch.no_grad()
def test_the_weights_of_a_channel_go_from_one_map_to_the_other(maps):
    a, e = maps
    fusion = fusion_of("static", identity=True)
    vectors = torch.zeros(4, 6)
    vectors[0] = 50.0
    fusion.static.copy_(vectors.reshape(1, -1))
    torch.testing.assert_close(fusion(a, e, None), a + fusion.mixed(a))
    vectors[1] = 100.0
    vectors[2], vectors[3] = torch.arange(6.0), -torch.arange(6.0)
    fusion.static.copy_(vectors.reshape(1, -1))
    gain, shift = (v[:, None, None] for v in vectors[2:])
    torch.testing.assert_close(fusion(a, e, None), a + (1 + gain) * fusion.mixed(fusion.aligned(e)) + shift)


@torch.no_grad()
@pytest.mark.parametrize("name", STEERED)
def test_each_image_has_its_own_syntax(maps, name):
    fusion, syntax = fusion_of(name, identity=True), torch.randn(2, 3)
    fused = fusion(*maps, syntax)
    changed = fusion(*maps, torch.stack([syntax[0], -syntax[1]]))
    assert torch.equal(fused[0], changed[0])
    assert not torch.allclose(fused[1], changed[1], atol=1e-4)


@torch.no_grad()
def test_a_gain_is_one_factor_of_what_is_added(maps):
    a, e = maps
    fusion, syntax = fusion_of("gain", identity=True), torch.randn(2, 3)
    added = fusion(a, e, syntax) - a
    without = fusion(a, e, torch.zeros(2, 3)) - a
    factors = torch.exp(syntax @ fusion.gain.weight[0])
    torch.testing.assert_close(added, factors[:, None, None, None] * without)
    assert (factors[0] / factors[1] - 1).abs() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("name", FUSIONS)
def test_both_maps_count(maps, name):
    a, e = maps
    fusion, syntax = fusion_of(name, identity=True), torch.randn(2, 3)
    assert not torch.allclose(fusion(a, e, syntax) - a, fusion(-a, e, syntax) + a, atol=1e-4)
    assert not torch.allclose(fusion(a, e, syntax), fusion(a, -e, syntax), atol=1e-4)

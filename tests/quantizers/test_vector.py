import copy
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from ulcompress.quantizers import VectorQuantizer

RANK = """
import sys, torch
from ulcompress.quantizers import VectorQuantizer
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
quantizer = VectorQuantizer(codebook_size=8, channels=6, dimension=3, decay=0.5, centred=True)
quantizer.load_state_dict(torch.load(f"{folder}/start.pt", weights_only=True))
for batch in torch.load(f"{folder}/batches.pt", weights_only=True):
    quantizer(batch.chunk(2)[rank])
torch.save(quantizer.state_dict(), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.fixture(autouse=True)
def seeded(one_thread):
    torch.manual_seed(0)


def identity(size, **arguments):
    """A quantiser whose projections do nothing."""
    quantizer = VectorQuantizer(codebook_size=size, channels=3, dimension=3, **arguments)
    with torch.no_grad():
        for linear in (quantizer.project_in, quantizer.project_out):
            linear.weight.copy_(torch.eye(3))
            linear.bias.zero_()
    return quantizer


def filled(codebook, **arguments):
    quantizer = identity(len(codebook), **arguments)
    quantizer.sums.copy_(F.normalize(codebook, dim=-1))
    quantizer.filled.fill_(True)
    return quantizer


def as_map(vectors):
    return vectors.T[None, :, None]


def test_default_projections_are_small():
    quantizer = VectorQuantizer()
    assert sum(parameter.numel() for parameter in quantizer.parameters()) == 20_832
    assert quantizer.codebook.shape == (1024, 32)


@torch.no_grad()
def test_the_entry_with_the_largest_cosine_is_chosen():
    quantizer = filled(torch.eye(3)).eval()
    vectors = torch.tensor([[9.0, 1, 0], [0.1, 0.2, 0.3], [-5, 0.1, -1]])
    quantized = quantizer(as_map(vectors))
    assert quantized.symbols.tolist() == [[[0, 2, 1]]]
    assert torch.equal(quantized.features[0, :, 0].T, torch.eye(3)[[0, 2, 1]])
    cosines = F.normalize(vectors, dim=-1).max(-1).values
    torch.testing.assert_close(quantized.losses["commitment"], 1 - cosines.mean())


def test_the_first_batch_fills_the_codebook():
    quantizer = identity(4)
    quantizer(as_map(torch.tensor([[1.0, 0, 0]]).repeat(10, 1)))
    assert bool(quantizer.filled)
    assert (quantizer.codebook[:, 0] > 0.99).all()


def test_entries_move_towards_the_vectors_that_choose_them():
    quantizer = filled(torch.eye(3), decay=0.9)
    vector = F.normalize(torch.tensor([1.0, 0.5, 0.0]), dim=-1)
    cosines = []
    for _ in range(60):
        cosines.append(float(quantizer.codebook[0] @ vector))
        quantizer(as_map(vector.repeat(10, 1)))
    assert cosines[:30] == sorted(cosines[:30])
    assert cosines[0] < 0.9 and cosines[-1] > 0.999
    torch.testing.assert_close(quantizer.codebook[1:], torch.eye(3)[1:])
    torch.testing.assert_close(quantizer.codebook.norm(dim=-1), torch.ones(3))


@torch.no_grad()
def test_centring_takes_away_what_all_features_have_in_common():
    vectors = torch.tensor([9.0, 9, 9]) + torch.randn(200, 3)
    for centred in (False, True):
        quantizer = filled(torch.cat([torch.eye(3), -torch.eye(3)]), centred=centred)
        for _ in range(100):
            quantizer(as_map(vectors))
        used = quantizer.eval()(as_map(vectors)).symbols.unique().numel()
        assert used == 6 if centred else used < 6
        torch.testing.assert_close(quantizer.mean, vectors.mean(0) * centred, atol=1e-3, rtol=1e-3)


def test_averages_are_those_of_the_formula():
    quantizer = filled(torch.eye(3), decay=0.75)
    quantizer(as_map(torch.tensor([[2.0, 0, 0], [5, 0, 0], [0, 1, 0]])))
    assert quantizer.usage.tolist() == [0.75 + 0.25 * 2, 0.75 + 0.25, 0.75]
    assert quantizer.sums.diagonal().tolist() == [1.25, 1.0, 0.75]


@pytest.mark.parametrize("revive_below, alive", [(0.0, 1), (0.5, 4)])
def test_dead_entries_are_revived_on_request(revive_below, alive):
    quantizer = filled(-torch.ones(4, 3), decay=0.5, revive_below=revive_below)
    with torch.no_grad():
        quantizer.sums[0] = F.normalize(torch.ones(3), dim=0)
    for _ in range(10):
        quantizer(as_map(1 + 0.5 * torch.rand(40, 3)))
    assert int((quantizer.codebook.min(-1).values > 0).sum()) == alive
    assert quantizer.usage.isfinite().all()


def test_two_processes_equal_one(tmp_path):
    one = VectorQuantizer(codebook_size=8, channels=6, dimension=3, decay=0.5, centred=True)
    one.filled.fill_(True)
    start = copy.deepcopy(one.state_dict())
    batches = [0.5 + torch.randn(4, 6, 3, 3) for _ in range(4)]
    torch.save(start, tmp_path / "start.pt")
    torch.save(batches, tmp_path / "batches.pt")
    command = [sys.executable, "-c", RANK]
    ranks = [subprocess.Popen([*command, str(n), str(tmp_path)], stderr=subprocess.PIPE) for n in range(2)]
    for batch in batches:
        one(batch)
    for rank in ranks:
        _, errors = rank.communicate(timeout=120)
        assert rank.returncode == 0, errors.decode()
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert not torch.allclose(one.codebook, F.normalize(start["sums"], dim=-1), atol=0.01)
    for name, value in one.state_dict().items():
        assert torch.equal(results[0][name], results[1][name]), name
        torch.testing.assert_close(results[0][name], value)

"""Two processes, each with half of a batch, compared with one that has it all."""

import copy
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from ulcompress.quantizers import LookupFreeQuantizer, ResidualQuantizer, VectorQuantizer
from ulcompress.quantizers.codebook import k_means

VECTOR = {"codebook_size": 8, "channels": 6, "dimension": 3, "decay": 0.5, "centred": True}
RESIDUAL = {"codebook_sizes": [6, 4], "blocks": [2, 1], "channels": 6, "dimension": 3, "decay": 0.5}
LOOKUP_FREE = {"bits": 3, "channels": 6, "inverse_temperature": 0.3}
RANK = """
import os, sys, torch
from ulcompress.quantizers import LookupFreeQuantizer, ResidualQuantizer, VectorQuantizer
from ulcompress.quantizers.codebook import k_means

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.manual_seed(rank)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt", weights_only=True)

vector = VectorQuantizer(**given["vector"])
vector.load_state_dict(given["vector_state"])
for batch in given["batches"]:
    vector(batch.chunk(2)[rank])

residual = ResidualQuantizer(**given["residual"])
residual.load_state_dict(given["residual_state"])
for batch in given["batches"]:
    residual(batch.chunk(2)[rank])

starts = []
for iterations in (0, 3):
    fresh = VectorQuantizer(**given["vector"], kmeans_iterations=iterations)
    fresh.load_state_dict(given["vector_state"] | {"filled": torch.tensor(False)})
    fresh(batch.chunk(2)[rank])
    starts.append(fresh.state_dict())

vectors = given["vectors"][20:] if rank else given["vectors"][:20]
lookup_free = LookupFreeQuantizer(**given["lookup_free"])
lookup_free.load_state_dict(given["lookup_free_state"])
value = lookup_free(batch.chunk(2)[rank]).losses["lookup_entropy"]
value.backward()

result = {
    "vector": vector.state_dict(),
    "residual": residual.state_dict(),
    "starts": starts,
    "k_means": k_means(vectors, given["vectors"][:6], 4),
    "value": value.detach(),
    "gradient": lookup_free.project_in.weight.grad,
}
torch.save(result, f"{folder}/{rank}.pt")
torch.distributed.barrier()
torch.distributed.destroy_process_group()
os._exit(0)  # on a busy machine gloo's threads can still be at work when the interpreter takes them down
"""


@pytest.fixture(scope="module")
def given():
    torch.manual_seed(0)
    vector = VectorQuantizer(**VECTOR)
    vector.filled.fill_(True)
    residual = ResidualQuantizer(**RESIDUAL)
    for stage in residual.stages:
        stage.filled.fill_(True)
    return {
        "residual": RESIDUAL,
        "residual_state": copy.deepcopy(residual.state_dict()),
        "vector": VECTOR,
        "vector_state": copy.deepcopy(vector.state_dict()),
        "lookup_free": LOOKUP_FREE,
        "lookup_free_state": LookupFreeQuantizer(**LOOKUP_FREE).state_dict(),
        "batches": [torch.randn(4, 6, 3, 3) + torch.arange(4.0)[:, None, None, None] for _ in range(4)],
        "vectors": F.normalize(torch.randn(30, 3), dim=-1),
    }


@pytest.fixture(scope="module")
def results(given, tmp_path_factory):
    """What each of the two processes returns."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.save(given, folder / "given.pt")
    command = [sys.executable, "-c", RANK]
    ranks = [subprocess.Popen([*command, str(n), str(folder)], stderr=subprocess.PIPE) for n in range(2)]
    for rank in ranks:
        _, errors = rank.communicate(timeout=120)
        assert rank.returncode == 0, errors.decode()
    return [torch.load(folder / f"{n}.pt", weights_only=True) for n in range(2)]


def test_the_codebook_is_that_of_one_process(given, results):
    one = VectorQuantizer(**VECTOR)
    one.load_state_dict(given["vector_state"])
    for batch in given["batches"]:
        one(batch)
    assert not torch.allclose(one.codebook, F.normalize(given["vector_state"]["sums"], dim=-1), atol=0.01)
    for name, value in one.state_dict().items():
        assert torch.equal(results[0]["vector"][name], results[1]["vector"][name]), name
        torch.testing.assert_close(results[0]["vector"][name], value)


def test_the_stages_are_those_of_one_process(given, results):
    one = ResidualQuantizer(**RESIDUAL)
    one.load_state_dict(given["residual_state"])
    for batch in given["batches"]:
        one(batch)
    assert not torch.equal(one.state_dict()["stages.1.sums"], given["residual_state"]["stages.1.sums"])
    for name, value in one.state_dict().items():
        assert torch.equal(results[0]["residual"][name], results[1]["residual"][name]), name
        torch.testing.assert_close(results[0]["residual"][name], value)


def test_a_codebook_starts_the_same_on_every_rank(given, results):
    for one, other in zip(results[0]["starts"], results[1]["starts"], strict=True):
        for name, value in one.items():
            assert torch.equal(value, other[name]), name
        assert not torch.allclose(one["sums"], given["vector_state"]["sums"], atol=0.1)


def test_k_means_is_that_of_one_process(given, results):
    expected = k_means(given["vectors"], given["vectors"][:6], 4)
    for result in results:
        torch.testing.assert_close(result["k_means"], expected)


def test_the_entropy_term_is_that_of_one_process(given, results):
    one = LookupFreeQuantizer(**LOOKUP_FREE)
    one.load_state_dict(given["lookup_free_state"])
    value = one(given["batches"][-1]).losses["lookup_entropy"]
    value.backward()
    # Each rank has the first of the two entropies of its own images; DDP averages the gradients.
    torch.testing.assert_close((results[0]["value"] + results[1]["value"]) / 2, value.detach())
    gradient = (results[0]["gradient"] + results[1]["gradient"]) / 2
    torch.testing.assert_close(gradient, one.project_in.weight.grad)

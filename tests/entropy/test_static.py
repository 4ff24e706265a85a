import copy
import subprocess
import sys

import pytest
import torch

from ulcompress.coding.arithmetic import MAX_ALPHABET
from ulcompress.entropy import StaticEntropy

RANK = """
import sys, torch
from ulcompress.entropy import StaticEntropy
rank, store, result = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
model = StaticEntropy(memory=500)
model.build(10)
for batch in torch.load(f"{result}/batches.pt", weights_only=True):
    model.observe(batch.chunk(2)[rank])
torch.save(model.counts, f"{result}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def built(alphabet=10, **arguments):
    model = StaticEntropy(**arguments)
    model.build(alphabet)
    return model


def test_frequent_symbols_become_cheap():
    model = built()
    model.observe(torch.full((4, 250), 3))
    assert float(model.bits(torch.tensor([[3]]))) < 0.02 < 6 < float(model.bits(torch.tensor([[4]])))


def test_what_is_old_fades():
    model = built(memory=1000)
    model.observe(torch.zeros(900).long())
    for _ in range(10):
        model.observe(torch.full((900,), 1))
    assert model.counts[0] < 5
    assert model.counts.sum() <= 1000
    assert model.counts.min() >= 1


def test_fit_replaces_the_statistics():
    model = built()
    model.observe(torch.zeros(900).long())
    model.fit(torch.tensor([1, 1, 2]))
    assert model.counts.tolist() == [1, 3, 2, 1, 1, 1, 1, 1, 1, 1]


def test_probabilities_follow_the_counts_however_they_change():
    model, other, symbol = built(), built(), torch.tensor([[3]])
    other.observe(torch.full((1000,), 3))
    before, after = model.bits(symbol), other.bits(symbol)
    model.load_state_dict(other.state_dict())
    assert model.bits(symbol) == after < before
    stale = copy.deepcopy(model)
    stale.counts.data.fill_(1)
    assert copy.deepcopy(stale).bits(symbol) == stale.to("cpu").bits(symbol) == before
    model.load_state_dict(stale.state_dict(), assign=True)
    assert model.bits(symbol) == before


def test_memory_must_hold_the_alphabet():
    with pytest.raises(ValueError, match="alphabet of 10 with memory=19"):
        built(memory=19)


def test_an_alphabet_that_no_table_holds_is_refused():
    with pytest.raises(ValueError, match=f"at most {MAX_ALPHABET}"):
        StaticEntropy().build(MAX_ALPHABET + 1)
    StaticEntropy().build(MAX_ALPHABET)


def test_two_processes_equal_one(tmp_path):
    torch.manual_seed(0)
    batches = [torch.randint(10, (8, 20)) for _ in range(5)]
    torch.save(batches, tmp_path / "batches.pt")
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store"), str(tmp_path)], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=120)
        assert rank.returncode == 0, errors.decode()
    one = built(memory=500)
    for batch in batches:
        one.observe(batch)
    for rank in range(2):
        assert torch.equal(torch.load(tmp_path / f"{rank}.pt", weights_only=True), one.counts)

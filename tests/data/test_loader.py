from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler

from ulcompress.data import Draw, EpochSampler, ResumableLoader


class Draws:
    """A dataset whose items are the draws themselves."""

    def __len__(self):
        return 11

    def __getitem__(self, draw):
        return draw


class Indices:
    """A dataset whose items are the indices of the draws."""

    def __len__(self):
        return 20

    def __getitem__(self, draw):
        return draw.index


def loader(*, seed=0, batch_size=2, workers=0):
    sampler = EpochSampler(size=11, seed=seed)
    options = {"batch_size": batch_size, "drop_last": True, "num_workers": workers, "persistent_workers": workers > 0}
    return ResumableLoader(Draws(), sampler=sampler, collate_fn=tuple, **options)


def test_each_epoch_is_another_permutation():
    sampler, orders = EpochSampler(size=11), []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append([draw.index for draw in sampler])
        assert {draw.epoch for draw in sampler} == {epoch}
    assert all(sorted(order) == list(range(11)) for order in orders)
    assert len(set(map(tuple, orders))) == 3
    assert [draw.index for draw in EpochSampler(size=11, seed=1)] not in orders


@pytest.mark.parametrize("replicas", [2, 3])
def test_processes_together_see_what_one_would_see(replicas):
    alone = list(BatchSampler(EpochSampler(size=13), 2 * replicas, drop_last=True))
    samplers = [EpochSampler(size=13, num_replicas=replicas, rank=rank) for rank in range(replicas)]
    parts = [list(BatchSampler(sampler, 2, drop_last=True)) for sampler in samplers]
    assert {len(part) for part in parts} == {len(alone)}
    together = [sorted(draw for batch in batches for draw in batch) for batches in zip(*parts, strict=True)]
    assert together == [sorted(batch) for batch in alone]


@pytest.mark.parametrize("rank", [0, 1])
def test_every_batch_has_one_side_the_same_in_all_processes(rank):
    def sides(start=0, **options):
        sampler = EpochSampler(size=900, crops=(32, 48, 64), batch_size=4, num_replicas=2, **options)
        sampler.start = start
        return [{draw.crop for draw in batch} for batch in BatchSampler(sampler, 4, drop_last=True)]

    drawn = sides(rank=rank)
    assert all(len(batch) == 1 for batch in drawn) and drawn == sides(rank=0) != sides(rank=rank, seed=1)
    assert all(drawn.count({side}) > 20 for side in (32, 48, 64))
    assert sides(rank=rank, start=80) == drawn[10:], "also when an epoch is continued"
    plain = EpochSampler(size=900, num_replicas=2, rank=rank)
    crops = EpochSampler(size=900, num_replicas=2, rank=rank, crops=(32, 48))
    assert [draw[:2] for draw in plain] == [draw[:2] for draw in crops], "the images do not depend on the sides"


@pytest.mark.parametrize("workers", [0, 2])
def test_the_place_counts_what_was_handed_out(workers):
    first = loader(workers=workers)
    first.sampler.set_epoch(4)
    batches = iter(first)
    seen = [next(batches) for _ in range(3)]
    second = loader(workers=workers)
    second.load_state_dict(first.state_dict())
    assert first.state_dict() == second.state_dict()
    rest = list(batches)
    assert list(second) == rest
    assert list(second) == seen + rest  # only the first iteration starts midway


def test_nothing_is_drawn_before_the_first_batch():
    data = loader()
    batches = iter(data)
    data.sampler.set_epoch(7)
    assert {draw.epoch for batch in batches for draw in batch} == {7}


def test_a_place_in_another_epoch_is_dropped():
    first, second = loader(), loader()
    assert len(list(first)) == 5 and first.state_dict()["batches"] == 5
    second.load_state_dict(first.state_dict())
    second.sampler.set_epoch(1)
    assert len(list(second)) == 5


def test_a_finished_epoch_has_no_batches_left():
    first, second = loader(), loader()
    assert all(isinstance(draw, Draw) for batch in first for draw in batch)
    second.load_state_dict(first.state_dict())
    assert list(second) == []


@pytest.mark.parametrize("changed", [{"seed": 1}, {"batch_size": 3}])
def test_other_batches_are_reported(changed):
    with pytest.warns(UserWarning, match="training continues with .* it began with .*: the batches will differ"):
        loader(**changed).load_state_dict(loader().state_dict())


def test_the_random_numbers_of_the_model_are_left_alone():
    before = torch.get_rng_state()
    list(loader())
    assert torch.equal(before, torch.get_rng_state())


STREAMS = [4, 1, 7, 5, 3]


def streams(**options):
    return EpochSampler(size=sum(STREAMS), streams=STREAMS, window=6, **options)


def test_shards_are_shuffled_and_their_images_within_a_window():
    ends = np.cumsum(STREAMS)
    sampler, first = streams(), []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        order = [draw.index for draw in sampler]
        assert sorted(order) == list(range(20))
        shards = [int(np.searchsorted(ends, index, side="right")) for index in order]
        for shard, size in enumerate(STREAMS):
            places = [place for place, found in enumerate(shards) if found == shard]
            assert places[-1] // 6 - places[0] // 6 <= -(-size // 6), "a shard is wanted in few windows"
        first.append(order)
    assert first[0] != first[1] != first[2] and first[0] == [draw.index for draw in streams()]


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3), (4, 2)])
def test_no_image_comes_twice_though_the_number_of_processes_changes(before, after):
    def loaders(replicas):
        samplers = [streams(num_replicas=replicas, rank=rank) for rank in range(replicas)]
        return [
            ResumableLoader(Indices(), sampler=sampler, batch_size=2, drop_last=True, collate_fn=list)
            for sampler in samplers
        ]

    begun = loaders(before)
    first = [index for data in begun for batch in islice(data, 2) for index in batch]
    rest = []
    for data in loaders(after):
        with pytest.warns(UserWarning, match=f"goes on behind its first {4 * before} images"):
            data.load_state_dict(begun[-1].state_dict())
        rest += [index for batch in data for index in batch]
    assert len({*first, *rest}) == len(first) + len(rest) > 20 - 2 * after

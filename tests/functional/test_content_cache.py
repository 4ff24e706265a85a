import copy
import pickle

import numpy as np
import pytest
import torch

from ulcompress.functional.content_cache import ContentCache


def test_it_computes_again_when_a_value_changes_and_not_before():
    calls = []
    cache = ContentCache(lambda *arrays: calls.append(1) or sum(int(array.sum()) for array in arrays))
    values = torch.arange(4)
    assert cache(values, torch.ones(2)) == cache(values.clone(), torch.ones(2)) == 8
    assert len(calls) == 1
    values[0] = 5
    assert cache(values, torch.ones(2)) == 13
    assert cache(values, torch.ones(3)) == 14


def test_an_error_leaves_what_was_computed_before():
    cache = ContentCache(np.linalg.inv)
    before = cache(torch.eye(2))
    with pytest.raises(np.linalg.LinAlgError):
        cache(torch.zeros(2, 2))
    assert cache(torch.eye(2)) is before


def test_copies_and_pickles_are_independent():
    cache = ContentCache(np.sum)
    cache(torch.arange(3))
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert other(torch.arange(5)) == 10
    assert cache(torch.arange(3)) == 3

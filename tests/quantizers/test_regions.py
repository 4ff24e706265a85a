import torch

from ulcompress.quantizers.regions import region_means


def test_known_vectors_become_the_means_of_what_is_nearest_to_them():
    vectors = torch.arange(16.0).view(1, 1, 4, 4).repeat(1, 2, 1, 1)
    for count in (1, 2, 4):
        known = region_means(vectors, count)
        whole = region_means(vectors, count, everywhere=True)
        changed = (known != vectors)[0, 0]
        assert changed.sum() <= count and len(whole.unique()) == count
        assert torch.isclose(whole.sum(), vectors.sum())
        assert torch.equal(known[0, :, changed], whole[0, :, changed])
    assert (region_means(vectors, 1, everywhere=True) == 7.5).all()
    assert torch.equal(region_means(vectors, 16), vectors)

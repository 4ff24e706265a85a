import warnings

from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.data import has_len_all_ranks

from ulcompress.training.noise import quiet


def test_a_training_without_validation_is_no_reason_to_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet():
            has_len_all_ranks([], SingleDeviceStrategy("cpu"))  # as Lightning does with the loaders of a validation

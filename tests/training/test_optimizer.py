import pytest
import torch

from ulcompress.training import WarmupAdamW


def test_the_rate_rises_and_falls():
    schedule = WarmupAdamW(warmup_steps=4, decay_steps=12)
    rates = [schedule.relative_rate(step) for step in range(14)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[8] == pytest.approx(0.5)
    assert rates[12] == rates[13] == 0
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_no_decay_keeps_the_peak():
    assert WarmupAdamW().relative_rate(10**6) == 1


def test_warm_up_takes_effect():
    parameter = torch.nn.Parameter(torch.zeros(1))
    configured = WarmupAdamW(learning_rate=1.0, warmup_steps=10).configure([parameter])
    assert configured["optimizer"].param_groups[0]["lr"] == pytest.approx(0.1)
    configured["optimizer"].step()
    configured["lr_scheduler"]["scheduler"].step()
    assert configured["optimizer"].param_groups[0]["lr"] == pytest.approx(0.2)

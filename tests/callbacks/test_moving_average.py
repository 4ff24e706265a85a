import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from callbacks import MovingAverage


class Drifting(BoringModel):
    """Its float buffer, its integer buffer and its weights change every step; one weight is frozen."""

    def __init__(self):
        super().__init__()
        self.register_buffer("codebook", torch.zeros(3))
        self.register_buffer("counts", torch.zeros(3, dtype=torch.int64))
        self.frozen = torch.nn.Parameter(torch.full((5,), 1 / 3), requires_grad=False)

    def training_step(self, batch, batch_idx):
        self.codebook += 1
        self.counts += 37
        return super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_float_buffers_are_averaged_and_integers_copied(tmp_path):
    model, average = Drifting(), MovingAverage(decay=0.5)
    trainer = Trainer(
        max_steps=3,
        limit_val_batches=0,
        callbacks=average,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model)
    # Steps give 1, 2, 3: the first is taken as it is, then 1.5, then 2.25. The end of a fit hands the average over.
    assert model.codebook.tolist() == [2.25] * 3
    assert model.counts.tolist() == [111] * 3
    assert torch.equal(model.frozen, torch.full((5,), 1 / 3))


def test_bad_decay():
    with pytest.raises(ValueError, match="decay must be at least 0 and less than 1, got 1"):
        MovingAverage(decay=1)

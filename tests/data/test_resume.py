"""A training continued from any checkpoint sees exactly the batches that the uninterrupted one would have seen."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from ulcompress.data import ImageDataModule

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),  # Lightning 2.6 with torch 2.15
]

EPOCHS, BATCHES = 3, 5


class Recorder(LightningModule):
    """Learns next to nothing, and remembers what it saw at each step."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[int, tuple] = {}

    def training_step(self, batch, batch_idx):
        pixels = batch.images.double().sum(dim=(1, 2, 3)).tolist()
        self.seen[self.global_step] = (self.current_epoch, batch_idx, *pixels, *batch.captions)
        return self.weight * batch.images.mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(scope="module")
def images(tmp_path_factory, write_shard):
    path = tmp_path_factory.mktemp("images") / "train.tar"
    write_shard(path, 0, 2 * BATCHES + 1)  # one more than whole batches need
    return str(path)


def fit(images, *callbacks: Callback, workers=0, resume=None, data=None, **options):
    """Return what was seen at each step, and the trained weight."""
    model = Recorder()
    changed = {"crop": 16, "batch_size": 2, "num_workers": workers, "validation_images": 1, **(data or {})}
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
        **{"max_epochs": EPOCHS, **options},
    )
    trainer.fit(
        model,
        datamodule=ImageDataModule(train=images, validation=images, **changed),
        ckpt_path=resume,
        weights_only=True,
    )
    return model.seen, model.weight.item()


def keep_all(folder: Path, **when) -> ModelCheckpoint:
    return ModelCheckpoint(dirpath=folder, filename="{step:02d}", save_top_k=-1, auto_insert_metric_name=False, **when)


KINDS = {
    "steps": ({"every_n_train_steps": 1}, {}),
    "limited by steps": ({"every_n_train_steps": 1}, {"max_epochs": -1, "max_steps": EPOCHS * BATCHES}),
    "after validation": ({"save_on_train_epoch_end": False, "every_n_epochs": 1}, {}),
    "after validation midway": ({"save_on_train_epoch_end": False, "every_n_epochs": 1}, {"val_check_interval": 2}),
    "end of epoch": ({"save_on_train_epoch_end": True, "every_n_epochs": 1}, {}),
    "limited epochs": ({"every_n_train_steps": 1}, {"limit_train_batches": 3}),
    "reloaded": ({"every_n_train_steps": 1}, {"reload_dataloaders_every_n_epochs": 1}),
    "accumulated": ({"every_n_train_steps": 1}, {"accumulate_grad_batches": 2, "max_steps": 9, "max_epochs": -1}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_continues_from_every_checkpoint(images, tmp_path, kind):
    when, options = KINDS[kind]
    whole, weight = fit(images, keep_all(tmp_path, **when), **options)
    checkpoints = sorted(tmp_path.glob("*.ckpt"))
    assert len(set(whole.values())) == len(whole) and len(checkpoints) >= EPOCHS
    for checkpoint in checkpoints:
        again = keep_all(tmp_path / f"from {checkpoint.stem}", **when)
        rest = fit(images, again, resume=checkpoint, **options)
        assert rest == ({k: v for k, v in whole.items() if k >= int(checkpoint.stem)}, weight)


def test_workers_change_nothing_and_what_they_prefetched_is_not_lost(images, tmp_path):
    whole, weight = fit(images, keep_all(tmp_path, every_n_train_steps=1), workers=2)
    assert (whole, weight) == fit(images)
    for step in (3, BATCHES, BATCHES + 3):
        again = keep_all(tmp_path / str(step), every_n_train_steps=1)
        rest = fit(images, again, resume=tmp_path / f"{step:02d}.ckpt", workers=2)
        assert rest == ({k: v for k, v in whole.items() if k >= step}, weight)


def test_warns_when_it_cannot_continue_exactly(images, tmp_path):
    fit(images, keep_all(tmp_path, every_n_train_steps=1), max_steps=3)
    again = keep_all(tmp_path / "again", every_n_train_steps=1)
    with pytest.warns(UserWarning, match="the batches will differ"):
        fit(images, again, resume=tmp_path / "03.ckpt", max_steps=4, data={"seed": 1})


def test_continues_from_shards_of_a_server(server, write_shard, tmp_path):
    for number in range(4):
        write_shard(server.folder / f"{number}.tar", 3 * number, 3)
    urls = f"{server.url}/{{0..3}}.tar"
    options = {"data": {"window": 5}, "max_epochs": 2}
    whole, weight = fit(urls, keep_all(tmp_path / "all", every_n_train_steps=1), **options)
    first, second = ([views for views in whole.values() if views[0] == epoch] for epoch in (0, 1))
    for epoch in (first, second):
        assert sorted(int(caption.split()[1]) for views in epoch for caption in views[-2:]) == list(range(12))
    for step, workers in ((4, 2), (8, 0)):
        again = keep_all(tmp_path / str(step), every_n_train_steps=1)
        rest = fit(urls, again, resume=tmp_path / "all" / f"{step:02d}.ckpt", workers=workers, **options)
        assert rest == ({k: v for k, v in whole.items() if k >= step}, weight)


def test_continues_with_other_batches_where_it_was_in_the_epoch(images, tmp_path):
    options = {"max_epochs": 1, "data": {"batch_size": 1}}
    fit(images, keep_all(tmp_path, every_n_train_steps=1), max_steps=4, **options)
    whole, _ = fit(images, **options)
    seen = [views[-1].split()[1] for views in whole.values()]
    for size, batches in ((2, 1), (3, 2)):
        again = keep_all(tmp_path / str(size), every_n_train_steps=1)
        options = {"max_epochs": 1, "data": {"batch_size": size}}
        with pytest.warns(UserWarning, match="behind its first 4 images, none of which comes again in it"):
            rest, _ = fit(images, again, resume=tmp_path / "04.ckpt", **options)
        found = [caption.split()[1] for views in rest.values() for caption in views[-size:]]
        assert found == seen[4 : 4 + len(found)] and len(rest) == batches


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_overfitting_repeats_the_same_crops(images):
    seen, _ = fit(images, overfit_batches=1)
    assert len({views[2:] for views in seen.values()}) == 1 < len(seen)

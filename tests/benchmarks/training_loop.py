"""CPU seconds of a training step of an experiment, by the trainer and by a bare loop over the same parts.

    python tests/benchmarks/training_loop.py -c EXPERIMENT --data.train FOLDER [--data.batch_size 2 ...]

takes the words of `ulcompress fit`, with all callbacks and loggers that the experiment has by default. Both loops train
the same module with the same optimiser, clipping and moving average on the same random images in memory, on one thread,
in turns; neither the first step of a turn is counted nor the last, behind which the trainer writes a checkpoint.
Prints both, and the overhead of the trainer.
"""

import sys
import time
from collections.abc import Sequence
from copy import deepcopy

import torch
from lightning.pytorch import Callback
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from callbacks import MovingAverage
from ulcompress.data import Batch
from ulcompress.training.cli import CodecCLI, start

STEPS, TURNS = 8, 3
ALONE = [
    *("--overwrite", "--trainer.max_steps", str(STEPS), "--trainer.enable_progress_bar", "false"),
    *("--trainer.limit_val_batches", "0", "--trainer.num_sanity_val_steps", "0"),
]


class Built(CodecCLI):
    """A command line that builds everything and runs nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Leave the parts to the caller."""


class Clock(Callback):
    """Notes the CPU seconds at the begin of each step."""

    def __init__(self):
        self.times = []

    def on_train_batch_start(self, *_):
        """Note the time."""
        self.times.append(time.process_time())


def built(words: Sequence[str]) -> Built:
    """Return a training of a few steps, built but not begun."""
    return start(Built, ["fit", *words, *ALONE])


def batches(cli: Built) -> list[Batch]:
    """Return random images of the experiment's batch and crop size."""
    data, random = cli.datamodule, torch.Generator().manual_seed(0)
    crop = data.crop if isinstance(data.crop, int) else data.crop[0]
    shape = data.batch_size, 3, crop, crop
    return [Batch(torch.rand(shape, generator=random), ["a red cup"] * shape[0]) for _ in range(STEPS)]


def by_trainer(words: Sequence[str]) -> float:
    """Return the CPU seconds of a step by the trainer."""
    cli, clock = built(words), Clock()
    cli.trainer.callbacks.insert(0, clock)
    cli.trainer.fit(cli.model, DataLoader(batches(cli), batch_size=None))
    return _seconds(clock.times)


def by_bare_loop(words: Sequence[str]) -> float:
    """Return the CPU seconds of a step by a loop over the module's terms."""
    cli = built(words)
    module, clip = cli.model.train(), cli.trainer.gradient_clip_val
    module.setup("fit")
    module.log = module.log_dict = lambda *_, **__: None
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    averages = [each for each in cli.trainer.callbacks if isinstance(each, MovingAverage)]
    average = AveragedModel(deepcopy(module), use_buffers=True, **averages[0]._kwargs) if averages else None
    times = []
    for number, batch in enumerate(batches(cli)):
        times.append(time.process_time())
        torch.manual_seed(number)
        optimizer.zero_grad()
        module.loss.total(module.terms(batch), number).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(module.trained_parameters().values(), clip)
        optimizer.step()
        schedule.step()
        if average is not None:
            average.update_parameters(module)
    return _seconds(times)


def _seconds(times: Sequence[float]) -> float:
    return (times[-1] - times[1]) / (len(times) - 2)


def main(words: Sequence[str]) -> None:
    """Measure both in turns, and print the least of each."""
    torch.set_num_threads(1)
    pairs = [(by_trainer(words), by_bare_loop(words)) for _ in range(TURNS)]
    trainer, bare = (min(values) for values in zip(*pairs, strict=True))
    print(f"a step: {trainer:.4f} s by the trainer, {bare:.4f} s by a bare loop, overhead {trainer / bare - 1:+.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Lightning's command line over the parts of ulcompress: fit, validate, test."""

import os
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

import callbacks  # noqa: F401  (imported classes can be named without their path)
from ulcompress import training  # noqa: F401
from ulcompress.data import ImageDataModule
from ulcompress.functional.cores import threads
from ulcompress.pretrained import export, read_checkpoint
from ulcompress.training.base import TrainingModule
from ulcompress.training.card import card
from ulcompress.training.codec_stage import CodecStage
from ulcompress.training.continuation import check_continues, find_checkpoint, is_own
from ulcompress.training.experiment import resolved, run_of
from ulcompress.training.interruption import signals_have_a_status
from ulcompress.training.last_checkpoint import keepers
from ulcompress.training.messages import configuration_error
from ulcompress.training.noise import quiet
from ulcompress.training.nulls import set_null, split_nulls
from ulcompress.training.observers import default_callbacks, default_loggers
from ulcompress.training.rendezvous import rendezvous_is_said
from ulcompress.training.run import Run, flat
from ulcompress.training.run_logger import closed_loggers, load_logger_states, logger_states, run_loggers
from ulcompress.training.trainer import NamedTrainer

VERBS = ("fit", "validate", "test")
OTHER_MODEL = "Error(s) in loading state_dict"
"""The beginning of torch's message where weights do not fit."""
SHOWN = 3
"""Differences to an existing run that a message names."""


class CodecCLI(LightningCLI):
    """LightningCLI with a run that has a name and a place."""

    def __init__(self, run: Run, command: list[str], **options: Any):
        """Take the run, the command line that is recorded of it, and the options of LightningCLI."""
        self.run, self.command = run, command
        super().__init__(**options)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Let no run depend on an unseeded start, and everything of it have its place."""
        parser.add_argument("--name", default=self.run.name, help="Name of the run; everything of it is in ROOT/NAME.")
        parser.add_argument("--root", default=str(self.run.root), help="Folder of the runs.")
        parser.add_argument("--overwrite", action="store_true", help="Begin anew where the run exists already.")
        parser.set_defaults(
            {
                "seed_everything": 0,
                "trainer.default_root_dir": str(self.run.folder),
                "trainer.callbacks": default_callbacks(self.run),
                "trainer.logger": default_loggers(self.run),
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Find the checkpoint to go on from, and give checkpoints a place that have none."""
        words, nulls = split_nulls(sys.argv[1:] if args is None else args)
        self.config = parser.parse_args(words)
        options = self.config[self.config.subcommand]
        for key in nulls:
            set_null(options.model, key)
        # Without it Lightning unpickles what it downloads.
        options.weights_only = options.get("weights_only") is not False
        for callback in (options.trainer.callbacks or {}).values():
            if callback is not None and callback.get("init_args", {}).get("dirpath", "") is None:
                callback.init_args.dirpath = str(self.run.checkpoints)
        options.ckpt_path = find_checkpoint(options, self.run)
        self.continues = is_own(options.ckpt_path, options, self.run)

    def _parse_ckpt_path(self) -> None:
        """Leave the model as the command has it, where Lightning would build what the checkpoint records."""

    def before_instantiate_classes(self) -> None:
        """Refuse to overwrite a run of another configuration, or the checkpoint of this one."""
        assert self.subcommand is not None
        self.resolved = yaml.safe_load(
            self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False, skip_link_targets=False)
        )
        if self.subcommand == "fit" and not (self.continues or self.resolved["overwrite"] or rank_zero_only.rank):
            self._refuse_to_overwrite()

    def _refuse_to_overwrite(self) -> None:
        advice = "go on with it by --ckpt_path last, or begin anew in its place by --overwrite"
        changed = self.run.differences(self.resolved) if self.run.configuration else {}
        if changed:
            shown = [f"{key} is {now} and was {was}" for key, (was, now) in changed.items()]
            more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
            raise ValueError(
                f"{self.run.folder} holds a run of another configuration: {', '.join(shown[:SHOWN])}{more}; "
                f"give another --name, {advice}"
            )
        if self.run.last_checkpoint.exists():
            raise ValueError(f"{self.run.folder} holds this run already, with a checkpoint; {advice}")

    def instantiate_trainer(self, **kwargs: Any) -> NamedTrainer:
        """Build the trainer from the named callbacks and loggers; the run's configuration is recorded here."""
        return NamedTrainer(**self._get(self.config_init, "trainer", default={}), **kwargs)

    def after_instantiate_classes(self) -> None:
        """Check the model before data and loggers start, and take this process's part of the cores.

        With several processes Lightning would share out all of the cores.
        """
        if isinstance(self.model, TrainingModule):
            self._check_model(self.model, self.resolved["ckpt_path"])
        processes = self.trainer.num_devices
        torch.set_num_threads(count := threads(processes))
        if processes > 1:
            os.environ.setdefault("OMP_NUM_THREADS", str(count))
        rank_zero_info(f"{processes} x {count} threads.")

    @staticmethod
    def _check_model(model: TrainingModule, checkpoint: str | None) -> None:
        if checkpoint is None:
            model.check()
        elif Path(checkpoint).is_file():
            check_continues(read_checkpoint(checkpoint), model.arguments(), model.fixed)

    def _run_subcommand(self, subcommand: str) -> None:
        """Say what a training on several nodes waits for."""
        with rendezvous_is_said(self.trainer):
            super()._run_subcommand(subcommand)

    def fit(self, **arguments: Any) -> None:
        """Train, record it, and export the codec."""
        if not self.trainer.is_global_zero or self.resolved["trainer"].get("fast_dev_run"):
            self.trainer.fit(**arguments)
            return
        if self.resolved["overwrite"] and not self.continues:
            self.run.clear()
        self.run.begin(self.resolved, command=self.command, continues=self.continues)
        self._describe_run()
        with self.run.state_recorded(), closed_loggers(self.trainer):
            try:
                self.trainer.fit(**arguments)
            finally:
                self.run.update(step=self.trainer.global_step, loggers=logger_states(self.trainer))
            self._export()

    def _describe_run(self) -> None:
        """Tell loggers what they log, and which log they go on with."""
        for logger in run_loggers(self.trainer):
            logger.describe_run(self.run.record, self.run.configuration)
        path = self.resolved["ckpt_path"]
        if path and Path(path).is_file() and any(run_loggers(self.trainer)):
            load_logger_states(self.trainer, read_checkpoint(path))

    def _export(self) -> None:
        last = next((keeper.last_model_path for keeper in keepers(self.trainer)), None)
        if last and isinstance(self.model, CodecStage):
            packages = {path.partition(".")[0] for key, path in flat(self.resolved) if key.endswith("class_path")}
            values = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
            measured = {name: value for name, value in values.items() if not name.startswith("train/")}
            export(last, self.run.codec, card=card(self.run.record, measured), trust=packages)
            for logger in run_loggers(self.trainer):
                logger.log_codec(self.run.codec, measured)


def main(arguments: list[str]) -> None:
    """Run one of Lightning's verbs with the rest of the command line.

    Raises:
        ValueError: A key or a value of the configuration is wrong; the message names its full path.
    """
    with signals_have_a_status(), quiet():
        start(CodecCLI, arguments)


def start(kind: type[CodecCLI], arguments: list[str]) -> CodecCLI:
    """Return a command line after it has done what its kind does; raises ValueError as `main` does."""
    options = {"exit_on_error": False, "parser_mode": "omegaconf", "allow_abbrev": False}
    run, command, from_shell = run_of(arguments), list(arguments), arguments == sys.argv[1:]
    arguments = [*resolved(arguments, run), "--name", run.name, "--root", str(run.root)]
    if from_shell:
        sys.argv[1:] = arguments  # processes that Lightning starts have the same
    try:
        return kind(
            run,
            command,
            model_class=pl.LightningModule,
            datamodule_class=ImageDataModule,
            subclass_mode_model=True,
            trainer_class=NamedTrainer,
            args=None if from_shell else arguments,
            auto_configure_optimizers=False,
            save_config_callback=None,
            parser_kwargs=options | dict.fromkeys(VERBS, options),
        )
    except (ArgumentError, ValueError, MisconfigurationException) as error:
        raise ValueError(configuration_error(error)) from error
    except RuntimeError as error:
        if OTHER_MODEL not in str(error):
            raise
        first = str(error).splitlines()[1].strip()
        raise ValueError(
            f"the checkpoint is of another model: {first}; continue with the code that wrote it"
        ) from error

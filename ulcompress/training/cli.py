"""Lightning's command line over the parts of ulcompress: fit, validate, test."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from jsonargparse import ArgumentError, Namespace
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

import callbacks  # noqa: F401  (imported classes can be named without their path)
from ulcompress import training  # noqa: F401
from ulcompress.data import ImageDataModule
from ulcompress.functional.cores import threads
from ulcompress.part import class_of, sources_of
from ulcompress.pretrained import read_checkpoint
from ulcompress.training.checkpoint import check_hyperparameters
from ulcompress.training.checkpoint_io import WholeCheckpointIO
from ulcompress.training.continuation import find_checkpoint
from ulcompress.training.experiment import upgraded_experiments
from ulcompress.training.interruption import InterruptionCheckpoint, signals_have_a_status
from ulcompress.training.messages import configuration_error

VERBS = ("fit", "validate", "test")
OTHER_MODEL = "Error(s) in loading state_dict"
"""The beginning of torch's message where weights do not fit."""


class CodecCLI(LightningCLI):
    """LightningCLI with this project's defaults."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Let no run depend on an unseeded start."""
        parser.set_defaults({"seed_everything": 0})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Keep the configuration of the user, to compare it with that of a checkpoint.

        Raises ValueError for a checkpoint that cannot be read, where Lightning would print a traceback, and for one
        that names code or files which the user's configuration does not name.
        """
        super().parse_arguments(parser, args)
        self.asked = self.config.clone()
        options = self.config[self.config.subcommand]
        # Without it Lightning unpickles what it downloads.
        options.weights_only = options.get("weights_only") is not False
        path = options.ckpt_path = find_checkpoint(options)
        if path and Path(path).is_file():
            check_hyperparameters(read_checkpoint(path), options.model.as_dict())

    def _parse_ckpt_path(self) -> None:
        """Take the model's arguments from the checkpoint, as Lightning does, in their present format."""
        path = self.config[self.config.subcommand].get("ckpt_path")
        if not path or not Path(path).is_file():
            return
        arguments = dict(read_checkpoint(path).get("hyper_parameters") or {})
        arguments.pop("_instantiator", None)
        if "_class_path" in arguments:
            model = {"class_path": arguments.pop("_class_path"), "dict_kwargs": arguments}
            self.config = self.parser.parse_object({self.config.subcommand: {"model": model}}, self.config)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Let checkpoints be written whole, unless the configuration names another way."""
        trainer = super().instantiate_trainer(**kwargs)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        return trainer

    def before_instantiate_classes(self) -> None:
        """Print the arguments of the user that a checkpoint has replaced, about which Lightning is silent."""
        asked, taken = (_model_arguments(config) for config in (self.asked, self.config))
        for name, value in asked.items():
            if taken.get(name) != value:
                print(
                    f"ulcompress: {name} is {taken.get(name)}, as in the checkpoint, not {value}; to go on with "
                    "other values, export the checkpoint and give the codec as --model.start.codec",
                    file=sys.stderr,
                )

    def after_instantiate_classes(self) -> None:
        """Take this process's part of the cores; with several processes Lightning would share out all of them."""
        processes = self.trainer.num_devices
        torch.set_num_threads(count := threads(processes))
        if processes > 1:
            os.environ.setdefault("OMP_NUM_THREADS", str(count))
        rank_zero_info(f"{processes} x {count} threads.")


def _model_arguments(config: Namespace) -> dict[str, Any]:
    """Return the arguments of the model by their full name, without the sources of weights: a checkpoint holds weights.

    Sources are what a part's class declares as such by `ulcompress.part.loadable`.
    """
    return dict(_flat("model", config[config.subcommand].model.as_dict()))


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield name, value
        return
    sources = sources_of(class_of(value["class_path"])) or () if "class_path" in value else ()
    for key, inner in value.items():
        if key == "init_args" and sources:
            inner = {argument: each for argument, each in inner.items() if argument not in sources}
        yield from _flat(f"{name}.{key}", inner)


def main(arguments: list[str]) -> None:
    """Run one of Lightning's verbs with the rest of the command line.

    Raises:
        ValueError: A key or a value of the configuration is wrong; the message names its full path.
    """
    options = {"exit_on_error": False, "parser_mode": "omegaconf"}
    from_shell, arguments = arguments == sys.argv[1:], upgraded_experiments(arguments)
    if from_shell:
        sys.argv[1:] = arguments
    try:
        with signals_have_a_status():
            CodecCLI(
                pl.LightningModule,
                ImageDataModule,
                subclass_mode_model=True,
                # Lightning warns when it gets as arguments what it would read from the shell.
                args=None if from_shell else arguments,
                auto_configure_optimizers=False,
                trainer_defaults={"callbacks": [InterruptionCheckpoint()]},
                save_config_kwargs={"overwrite": True},
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

"""Lightning's command line over the parts of ulcompress: fit, validate, test."""

import sys

import lightning.pytorch as pl
from jsonargparse import ArgumentError
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import callbacks  # noqa: F401  (imported classes can be named without their path)
from ulcompress import training  # noqa: F401
from ulcompress.data import ImageDataModule
from ulcompress.messages import configuration_error

VERBS = ("fit", "validate", "test")


class CodecCLI(LightningCLI):
    """LightningCLI with this project's defaults."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Let no run depend on an unseeded start."""
        parser.set_defaults({"seed_everything": 0})


def main(arguments: list[str]) -> None:
    """Run one of Lightning's verbs with the rest of the command line.

    Raises:
        ValueError: A key or a value of the configuration is wrong; the message names its full path.
    """
    options = {"exit_on_error": False, "parser_mode": "omegaconf"}
    try:
        CodecCLI(
            pl.LightningModule,
            ImageDataModule,
            subclass_mode_model=True,
            # Lightning warns when it is given what it would read itself.
            args=None if arguments == sys.argv[1:] else arguments,
            auto_configure_optimizers=False,
            save_config_kwargs={"overwrite": True},
            parser_kwargs=options | dict.fromkeys(VERBS, options),
        )
    except ArgumentError as error:
        raise ValueError(configuration_error(error)) from error

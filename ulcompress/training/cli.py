"""Lightning's command line over the parts of ulcompress: fit, validate, test, predict."""

import lightning.pytorch as pl
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import callbacks  # noqa: F401  (imported classes can be named without their path)
from ulcompress import training  # noqa: F401
from ulcompress.data import ImageDataModule


class CodecCLI(LightningCLI):
    """LightningCLI with this project's defaults."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Let no run depend on an unseeded start."""
        parser.set_defaults({"seed_everything": 0})


def main(arguments: list[str]) -> None:
    """Run one of Lightning's verbs with the rest of the command line."""
    CodecCLI(
        pl.LightningModule,
        ImageDataModule,
        subclass_mode_model=True,
        args=arguments,
        auto_configure_optimizers=False,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"parser_mode": "omegaconf"},
    )

"""The nominal rate of an experiment, before anything is trained: symbols of fixed length."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from ulcompress.conditioning import Conditioner
from ulcompress.encoders import Encoder
from ulcompress.files import read_yaml
from ulcompress.functional.division import ceil_div
from ulcompress.part import class_of
from ulcompress.pretrained.upgrades import upgrade_experiment
from ulcompress.quantizers import Quantizer
from ulcompress.training import CodecStage
from ulcompress.training.experiment import files_of
from ulcompress.training.messages import configuration_error

SIZES = ((512, 512), (768, 512))
"""Width and height of the images whose bits are shown: those that papers evaluate on."""


def describe_experiment(paths: Sequence[Path]) -> str:
    """Return a few lines: the bits of the spatial symbols, and what each conditioner's side information can cost.

    Args:
        paths: YAML files of one experiment, merged in this order as `ulcompress fit -c ... -c ...` merges them.

    Raises:
        ValueError: A file is no experiment with a codec.
    """
    return "\n".join([" + ".join(map(str, paths)), *describe_codec(_codec_of(paths))])


def describe_codec(codec: Mapping[str, Any]) -> list[str]:
    """Return the lines of `describe_experiment` for the resolved configuration of a codec."""
    lines = _spatial_lines(codec)
    for name, conditioner in codec["conditioning"].items():
        if conditioner is None:
            continue
        kind = class_of(conditioner["class_path"])
        if issubclass(kind, Conditioner) and (cost := kind.nominal_cost(conditioner.get("init_args", {}))):
            lines.append(f"  {name:<7}  {cost}")
    return lines


def _spatial_lines(codec: Mapping[str, Any]) -> list[str]:
    encoder, quantizer = _build(Encoder, codec["encoder"]), _build(Quantizer, codec["quantizer"])
    stride, name = encoder.stride, type(quantizer).__name__
    totals = [quantizer.fixed_length_bits(ceil_div(height, stride), ceil_div(width, stride)) for width, height in SIZES]
    if not totals[0]:
        return [f"  spatial  {name}: as many bits as the image needs, no nominal rate"]
    kind = f"one of {size} symbols" if (size := getattr(quantizer, "size", None)) else f"a {name} of features"
    lines = [f"  spatial  {kind} every {stride} x {stride} pixels"]
    for rate in range(quantizer.rates):
        of = f"rate {rate + 1}, " if quantizer.rates > 1 else ""
        lines += [f"    {of}{_amount(bits[rate], *size)}" for bits, size in zip(totals, SIZES, strict=True)]
    return lines


def _amount(bits: float, width: int, height: int) -> str:
    bpp = bits / (width * height)
    return f"{width} x {height}: {bits:g} bits, {math.ceil(bits / 8)} bytes, {bpp:.6f} bpp"


def _codec_of(paths: Sequence[Path]) -> dict[str, Any]:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(CodecStage, "model")
    merged: Namespace | None = None
    for path in (file for each in paths for file in files_of(each)):
        model = upgrade_experiment(read_yaml(path, kind="experiment", section="model")).get("model")
        if model is None:
            continue
        try:
            merged = parser.parse_object({"model": model}, merged)
        except ArgumentError as error:
            raise ValueError(f"{path}: {configuration_error(error)}") from error
    if merged is None or "codec" not in merged["model"]["init_args"]:
        raise ValueError(f"{paths[0]} describes no codec; give the YAML files of an experiment, the base first")
    return merged["model"]["init_args"]["codec"].as_dict()


def _build(kind: type, config: Any) -> Any:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(kind, "part")
    return parser.instantiate(parser.parse_object({"part": config})).part

"""The options of an evaluation as plain data, which processes exchange."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os.path import commonpath
from pathlib import Path

from ulcompress.evaluation.measuring.contestants import Setting, short_name
from ulcompress.functional.limits import MAX_PIXELS
from ulcompress.functional.lines import printable


@dataclass(frozen=True)
class Curve:
    """One or several codecs that make a curve."""

    name: str
    codecs: tuple[str, ...]
    """Named as for `ulcompress.load`."""

    @classmethod
    def parse(cls, text: str) -> Curve:
        """Read `mini`, `runs/my-codec` or `NAME=runs/low,runs/high`; ValueError where nothing is named.

        An existing directory, and a path whose first part has no `=`, is one codec.
        """
        if Path(text).is_dir():
            return cls(printable(Path(text).resolve().name), (text,))
        if "=" not in text.replace(os.sep, "/").partition("/")[0]:
            return cls(printable(text), (text,))
        curve, _, codecs = text.partition("=")
        found = tuple(codec for codec in codecs.split(",") if codec)
        if not curve or not found:
            raise ValueError(f"got the codec {text!r}; write a name or directory, or NAME=CODEC,CODEC for a curve")
        return cls(printable(curve), found)


@dataclass(frozen=True)
class Plan:
    """Codecs, images, anchors and metrics of one evaluation."""

    images: Mapping[str, Path]
    """Files by the names of the images in the results."""
    curves: tuple[Curve, ...]
    out: Path
    """Folder of the results."""
    captions: Mapping[str, str] = field(default_factory=dict)
    """Captions by name of the image."""
    settings: tuple[Setting, ...] = (Setting(),)
    """Every codec that `codec_settings` does not name is used at each of them."""
    codec_settings: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    """Settings by the name of a codec or of a curve, whose codecs are used at each of them."""
    anchors: tuple[str, ...] = ()
    """Names of `ANCHORS`; each is matched to every codec at every setting."""
    metrics: tuple[str, ...] = ()
    """Names, as `metrics.build` takes them."""
    weights: Path | None = None
    """Folder of the metrics' weights."""
    trust: tuple[str, ...] = ()
    """Packages whose parts the codecs may name, as for `ulcompress.load`."""
    trust_networks: bool = False
    """Whether .pt2 files of that folder are read, which can hold code that runs."""
    max_pixels: int = MAX_PIXELS
    """Most pixels of an image; larger ones are refused."""
    device: str = "cpu"
    processes: int = 1
    """How many processes share the images; `torchrun` starts as many as it is called with."""
    threads: int | None = None
    """Threads of torch in every process; None divides the cores among the processes."""
    batch: int = 1
    """Images of one size, at most, that go through the network of a metric together; they are coded one by one."""
    reference: str | None = None
    """Curve or contestant to which the others are compared; None takes the first anchor's curve, or else codec's."""
    dataset: str | None = None
    """Data set whose published points are shown; None recognises it."""
    keep: bool = False
    """Whether compressed files and restored images stay."""
    online_variables: tuple[str, ...] | None = None
    """Variables of a search for better codes; None takes the default of `OnlineOptimizer`."""
    online_perceptual: str | None = None
    """SqueezeNet's weights, where the search is for its features too."""

    def __post_init__(self):
        """Raise ValueError for a batch without images."""
        if self.batch < 1:
            raise ValueError(f"got batch={self.batch}; give 1 or more")

    def settings_of(self, curve: Curve, codec: str) -> tuple[Setting, ...]:
        """Return the settings at which a codec of a curve is used."""
        found = [self.codec_settings[name] for name in names(curve, codec) if name in self.codec_settings]
        return tuple(dict.fromkeys(setting for some in found for setting in some)) or self.settings


def names(curve: Curve, codec: str) -> list[str]:
    """Return the names by which a setting can mean a codec of a curve: as it was given, its short one, the curve's."""
    return list(dict.fromkeys([codec, short_name(codec), curve.name]))


def name_images(paths: Sequence[Path]) -> dict[str, Path]:
    """Give every image a name: that of its file without suffix, with folders in front where two would be alike.

    Files of one folder that differ in their suffix alone keep it; letters that cannot be printed are escaped. Raises
    ValueError where even that leaves two alike.
    """
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        top = Path(commonpath([path.resolve().parent for path in paths]))
        whole = [path.resolve().relative_to(top) for path in paths]
        count = Counter(path.with_suffix("") for path in whole)
        names = [(path if count[path.with_suffix("")] > 1 else path.with_suffix("")).as_posix() for path in whole]
    names = [printable(name) for name in names]
    refuse_duplicates("images", names)
    return dict(zip(names, paths, strict=True))


def refuse_duplicates(what: str, names: Sequence[str]) -> None:
    """Raise ValueError where a name occurs twice; `what` is the plural of what is named."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"got two {what} of the name {twice[0]!r}; give each once, or rename one")

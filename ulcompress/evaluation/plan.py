"""What an evaluation is to do, as plain data that any process can take a share of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os.path import commonpath
from pathlib import Path

from ulcompress.evaluation.anchors import ANCHORS
from ulcompress.evaluation.contestants import AnchorContestant, CodecContestant, Contestant, Setting
from ulcompress.losses import FeatureDistance
from ulcompress.optimization import OnlineOptimizer


@dataclass(frozen=True)
class Curve:
    """One or several codecs that make a curve."""

    name: str
    codecs: tuple[str, ...]
    """Named as for `ulcompress.load`."""

    @classmethod
    def parse(cls, text: str) -> Curve:
        """Read `mini`, `runs/my-codec` or `NAME=runs/low,runs/high`; ValueError where nothing is named."""
        curve, equals, codecs = text.partition("=")
        if not equals:
            return cls(Path(text).name if Path(text).is_dir() else text, (text,))
        found = tuple(codec for codec in codecs.split(",") if codec)
        if not curve or not found:
            raise ValueError(f"got the codec {text!r}; write a name or directory, or NAME=CODEC,CODEC for a curve")
        return cls(curve, found)


@dataclass(frozen=True)
class Plan:
    """Codecs, images, anchors and metrics of one evaluation."""

    images: Mapping[str, Path]
    """By the name that results have for them."""
    curves: tuple[Curve, ...]
    out: Path
    """Folder of the results."""
    captions: Mapping[str, str] = field(default_factory=dict)
    """By name of the image."""
    settings: tuple[Setting, ...] = (Setting(),)
    """Every codec is used at each of them."""
    anchors: tuple[str, ...] = ()
    """Names of `ANCHORS`; each is matched to every codec at every setting."""
    metrics: tuple[str, ...] = ()
    """Names, as `metrics.build` takes them."""
    weights: Path | None = None
    """Folder of the metrics' weights."""
    device: str = "cpu"
    keep: bool = False
    """Whether compressed files and restored images stay."""
    online_variables: tuple[str, ...] | None = None
    """What a search for better codes varies; None leaves it to `OnlineOptimizer`."""
    online_perceptual: str | None = None
    """SqueezeNet's weights, where the search is for its features too."""

    def contestants(self) -> list[Contestant]:
        """Return the codecs, each followed by the anchors that are matched to it.

        Raises ValueError where two have one name, or an anchor is unknown or cannot be used here.
        """
        optimizer = self._optimizer()
        anchors = [_anchor(name) for name in self.anchors]
        found: list[Contestant] = []
        for curve in self.curves:
            for codec in curve.codecs:
                for setting in self.settings:
                    ours = CodecContestant(
                        codec=codec, curve=curve.name, setting=setting, device=self.device, optimizer=optimizer
                    )
                    found += [ours, *(AnchorContestant(anchor=a, matched_to=ours.name) for a in anchors)]
        _refuse_twice("contestants", [contestant.name for contestant in found])
        return found

    def _optimizer(self) -> OnlineOptimizer | None:
        if not any(setting.online for setting in self.settings):
            return None
        perceptual = FeatureDistance(weights=self.online_perceptual) if self.online_perceptual else None
        return OnlineOptimizer(variables=self.online_variables, perceptual=perceptual)


def name_images(paths: Sequence[Path]) -> dict[str, Path]:
    """Give every image a name: that of its file without suffix, with folders in front where two would be alike.

    Raises ValueError where even that leaves two alike.
    """
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        top = Path(commonpath([path.resolve().parent for path in paths]))
        names = [path.resolve().relative_to(top).with_suffix("").as_posix() for path in paths]
    _refuse_twice("images", names)
    return dict(zip(names, paths, strict=True))


def _anchor(name: str):
    if name not in ANCHORS:
        raise ValueError(f"got the anchor {name!r}; known are {', '.join(ANCHORS)}")
    anchor = ANCHORS[name]()
    anchor.check()
    return anchor


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"got two {what} of the name {twice[0]!r}; give each once, or rename one")

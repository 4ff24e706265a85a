"""A plan as one process carries it out: what is built of it, once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from ulcompress.codec import Codec
from ulcompress.evaluation.anchors import ANCHORS, Anchor
from ulcompress.evaluation.measuring.contestants import AnchorContestant, CodecContestant, Contestant, Setting
from ulcompress.evaluation.measuring.groups import alike, groups
from ulcompress.evaluation.measuring.plan import Plan, names, refuse_duplicates
from ulcompress.evaluation.metrics import Metric, Missing, build, known_names
from ulcompress.evaluation.results.published import datasets
from ulcompress.functional.devices import check_device
from ulcompress.losses import FeatureDistance
from ulcompress.optimization import OnlineOptimizer
from ulcompress.pretrained import load, locate, metadata


class Evaluation:
    """The contestants and metrics of a plan in one of the processes that share its images.

    Processes exchange plans, which are plain data; each builds its own evaluation and uses it from the first image to
    the results.
    """

    def __init__(self, plan: Plan, *, rank: int = 0, world: int = 1, device: str | None = None):
        """Build the codecs' contestants, each followed by the anchors that are matched to it.

        Codecs are loaded, and metrics are built, when they are first used.

        Args:
            plan: What is evaluated.
            rank: Number of this process, from 0.
            world: How many processes share the images.
            device: Torch device of this process; None takes the plan's.

        Raises:
            ValueError: Two contestants have one name, or an anchor is unknown or cannot be used on this machine.
        """
        self.plan = plan
        self.device = device or plan.device
        self.share = groups(plan.images, plan.batch)[rank::world]
        self.contestants = self._contestants()
        refuse_duplicates("contestants", [contestant.name for contestant in self.contestants])

    def by_codec(self) -> list[list[Contestant]]:
        """Return the contestants in lists, of which each needs one codec: its settings, and the anchors matched to it.

        An image goes through all of a list before the next one does, so that codec and metrics' maps of the image are
        there already.
        """
        return alike(self.contestants, lambda contestant: contestant.source)

    @property
    def metrics(self) -> list[Metric]:
        """The metrics that can be applied."""
        return self._metrics[0]

    @property
    def missing(self) -> list[Missing]:
        """The metrics whose weights are missing."""
        return self._metrics[1]

    @cached_property
    def _metrics(self) -> tuple[list[Metric], list[Missing]]:
        plan = self.plan
        return build(plan.metrics, plan.weights, self.device, trust_networks=plan.trust_networks)

    def check(self) -> None:
        """Raise ValueError, in one line, for what can be known to fail before anything is measured."""
        plan = self.plan
        curves = dict.fromkeys(contestant.curve for contestant in self.contestants)
        points = [contestant.name for contestant in self.contestants if contestant.name not in curves]
        if plan.reference is not None and plan.reference not in {*curves, *points}:
            known = f"the curves are {', '.join(curves)}" + (f"; the points {', '.join(points)}" if points else "")
            raise ValueError(f"got the reference {plan.reference!r}; {known}")
        if plan.dataset is not None and plan.dataset not in datasets():
            raise ValueError(f"got the data set {plan.dataset!r}; numbers are published for {', '.join(datasets())}")
        known_names(plan.metrics, plan.weights)
        check_device(plan.device)
        for codec, settings in self._settings():
            metadata(locate(codec))  # raises for weights that are missing or cut short
            without = {name for setting in settings for name in setting.without}
            rate = max(setting.rate or 1 for setting in settings)
            sized = any(setting.max_bytes or setting.bpp for setting in settings)
            if without or rate > 1 or sized:
                _check_coding(load(codec, encoder_only=True, trust=plan.trust), codec, without, rate, sized=sized)

    def _settings(self) -> list[tuple[str, tuple[Setting, ...]]]:
        """Return every codec with its settings; ValueError for settings of a codec that there is none of."""
        codecs = [(curve, codec) for curve in self.plan.curves for codec in curve.codecs]
        known = dict.fromkeys(name for curve, codec in codecs for name in names(curve, codec))
        for name in self.plan.codec_settings:
            if name not in known:
                raise ValueError(f"got a setting of the codec {name!r}; the codecs are {', '.join(known)}")
        return [(codec, self.plan.settings_of(curve, codec)) for curve, codec in codecs]

    def _contestants(self) -> list[Contestant]:
        plan, optimizer = self.plan, _optimizer(self.plan)
        anchors = [usable_anchor(name) for name in plan.anchors]
        found: list[Contestant] = []
        for curve in plan.curves:
            for codec in curve.codecs:
                for setting in plan.settings_of(curve, codec):
                    ours = CodecContestant(
                        codec=codec,
                        curve=curve.name,
                        setting=setting,
                        device=self.device,
                        optimizer=optimizer,
                        trust=plan.trust,
                        max_pixels=plan.max_pixels,
                    )
                    found += [ours, *(AnchorContestant(anchor=anchor, matched_to=ours) for anchor in anchors)]
        return found


def _optimizer(plan: Plan) -> OnlineOptimizer | None:
    settings = [plan.settings, *plan.codec_settings.values()]
    if not any(setting.online for some in settings for setting in some):
        return None
    perceptual = FeatureDistance(weights=plan.online_perceptual) if plan.online_perceptual else None
    return OnlineOptimizer(variables=plan.online_variables, perceptual=perceptual)


def usable_anchor(name: str) -> Anchor:
    """Return an anchor; ValueError for an unknown one, and for one that cannot be used on this machine."""
    if name not in ANCHORS:
        raise ValueError(f"got the anchor {name!r}; known are {', '.join(ANCHORS)}")
    anchor = ANCHORS[name]()
    anchor.check()
    return anchor


def _check_coding(loaded: Codec, codec: str, names: Iterable[str], rate: int, *, sized: bool) -> None:
    """Raise ValueError for streams that a codec does not send, and for a rate or sizes that it does not have."""
    if sized and not loaded.quantizer.divisible:
        raise ValueError(f"this codec's files have the size that they have; leave out max_bytes and bpp: {codec}")
    try:
        loaded.quantizer.check_rate(rate)
    except ValueError as error:
        raise ValueError(f"{error}: {codec}") from error
    sent = [name for name, conditioner in loaded.conditioners.items() if conditioner.sends]
    for name in sorted(set(names) - set(sent)):
        streams = ", ".join(sent) or "no side information"
        raise ValueError(f"this codec sends no {name!r}; it sends {streams}: {codec}")

"""The optimiser of all training stages, and how its learning rate changes."""

import inspect
import math
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, final

from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from ulcompress.part import Part, class_of, loadable


@loadable(plain=["kind", "options", "schedule", "schedule_options", "groups"])
@final
class ScheduledOptimizer(Part):
    """An optimiser of torch, by default AdamW with a linear warm-up and, if wanted, a half cosine down to zero.

    Source of the default: Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
    """

    DEFAULTS: ClassVar = {"betas": (0.9, 0.99)}
    """Options where the optimiser has them."""

    def __init__(
        self,
        *,
        learning_rate: float = 1e-4,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
        weight_decay: float = 0.01,
        kind: str = "AdamW",
        options: dict[str, Any] | None = None,
        schedule: str | None = None,
        schedule_options: dict[str, Any] | None = None,
        groups: dict[str, dict[str, Any]] | None = None,
    ):
        """Set the rates, and choose the classes.

        Args:
            learning_rate: Peak rate.
            warmup_steps: Steps over which the rate rises linearly from 0.
            decay_steps: Step at which a half cosine after the warm-up ends at 0; None keeps the peak rate.
            weight_decay: Decoupled decay where the optimiser decouples it, as AdamW does.
            kind: Class of the optimiser: a name in `torch.optim`, or an import path.
            options: Its other arguments, such as `betas: [0.9, 0.95]`.
            schedule: Class of another schedule, stepped after each optimiser step: a name in
                `torch.optim.lr_scheduler`, or an import path. None for the warm-up and the decay above.
            schedule_options: Its arguments, such as `T_max: 1000`.
            groups: Parts with options of their own, `decoder: {learning_rate: 1.0e-4}` for instance. Of two that
                contain a parameter, the inner one counts.

        Raises:
            ValueError: There is no such class, or two arguments contradict.
        """
        super().__init__()
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.decay_steps = decay_steps
        self.weight_decay = weight_decay
        self.kind = _class(kind, "kind", Optimizer, "torch.optim")
        self.options = options or {}
        self.schedule = _class(schedule, "schedule", LRScheduler, "torch.optim.lr_scheduler") if schedule else None
        self.schedule_options = schedule_options or {}
        self.groups = groups or {}
        self._check()

    def _check(self) -> None:
        if self.schedule is None and self.schedule_options:
            raise ValueError("optimizer.schedule_options are of a schedule; name its class as optimizer.schedule")
        if self.schedule is not None and (self.warmup_steps or self.decay_steps is not None):
            raise ValueError(
                f"optimizer.schedule is {self.schedule.__name__}, which has no warm-up and decay of ours; leave out "
                "warmup_steps and decay_steps, or the schedule"
            )
        if self.schedule is ReduceLROnPlateau:
            raise ValueError("ReduceLROnPlateau follows a measured value, not the steps; choose another schedule")
        if self.weight_decay and not self._takes("weight_decay"):
            raise ValueError(f"{self.kind.__name__} has no weight decay; set optimizer.weight_decay to 0")

    def _takes(self, option: str) -> bool:
        return option in inspect.signature(self.kind).parameters

    def configure(self, parameters: Mapping[str, nn.Parameter], *, fused: bool = True) -> dict[str, Any]:
        """Return what a LightningModule's `configure_optimizers` returns; the schedule is stepped every batch.

        Args:
            parameters: Those that are trained, by their names, which begin with those of the parts.
            fused: On a CPU, take torch's step of one loop over all numbers, where the optimiser has one.

        Raises:
            ValueError: The optimiser or the schedule refuses its options, or a group has no parameters.
        """
        defaults = {**self.DEFAULTS, "weight_decay": self.weight_decay}
        is_torch = self.kind.__module__.startswith("torch.optim.")
        if fused and is_torch and "foreach" not in self.options and _on_cpu(parameters.values()):
            defaults["fused"] = True
        known = {name: value for name, value in defaults.items() if self._takes(name)}
        options = {"lr": self.learning_rate, **known, **_tuples(self.options)}
        optimizer = _built("options", self.kind, self._grouped(parameters), **options)
        for group in self.groups.values():
            if unknown := sorted(_renamed(group).keys() - optimizer.defaults.keys()):
                raise ValueError(f"optimizer.groups: {self.kind.__name__} has no option {unknown[0]!r}")
        schedule = (
            LambdaLR(optimizer, self.relative_rate)
            if self.schedule is None
            else _built("schedule_options", self.schedule, optimizer, **self.schedule_options)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _grouped(self, parameters: Mapping[str, nn.Parameter]) -> list[Any]:
        """Return the parameters in torch's groups: those with options of their own, then all others."""
        members: dict[str | None, list[nn.Parameter]] = {name: [] for name in (*self.groups, None)}
        for name, parameter in parameters.items():
            parts = [part for part in self.groups if f"{name}.".startswith(f"{part}.")]
            members[max(parts, key=len, default=None)].append(parameter)
        if empty := [name for name in self.groups if not members[name]]:
            parts = sorted({name.partition(".")[0] for name in parameters})
            raise ValueError(
                f"optimizer.groups: no parameter of {empty[0]!r} is trained beside other groups; trained are parts of "
                f"{', '.join(parts)}"
            )
        groups = [{"params": members[name], **_renamed(options)} for name, options in self.groups.items()]
        return [*groups, {"params": members[None]}] if members[None] else groups

    def structure(self) -> dict[str, Any]:
        """Return, as plain data, what the states of optimiser and schedule in a checkpoint belong to."""
        return {
            "kind": self.kind.__name__,
            "schedule": None if self.schedule is None else self.schedule.__name__,
            "groups": list(self.groups),
        }

    def relative_rate(self, step: int) -> float:
        """Return the share of the peak rate of warm-up and decay at an optimiser step, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.decay_steps is None:
            return 1.0
        progress = (step - self.warmup_steps) / max(1, self.decay_steps - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _on_cpu(parameters: Iterable[nn.Parameter]) -> bool:
    """Return whether parameters are on the CPU, and whole, since not every fused step takes parts of them."""
    return all(each.device.type == "cpu" and not isinstance(each, DTensor) for each in parameters)


WarmupAdamW = ScheduledOptimizer
"""The name that says what its defaults are."""


def _class(path: str, option: str, base: type, package: str) -> type:
    """Return the class of an import path, or of a name in a package of torch; ValueError if it is no such `base`."""
    try:
        found = class_of(path if "." in path else f"{package}.{path}")
    except (ImportError, AttributeError):
        found = None
    if not _is_choice(found, base):
        names = sorted(name for name, value in vars(import_module(package)).items() if _is_choice(value, base))
        raise ValueError(
            f"optimizer.{option} must be an import path, or a class of {package}: {', '.join(names)}; got {path!r}"
        )
    return found  # pyright: ignore[reportReturnType]


def _is_choice(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base) and value is not base


def _built(option: str, kind: type, *arguments: Any, **options: Any) -> Any:
    try:
        return kind(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"optimizer.{option}: {kind.__name__} refuses them: {error}") from error


def _renamed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a group by torch's names."""
    return {"lr" if name == "learning_rate" else name: value for name, value in _tuples(options).items()}


def _tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with pairs, such as betas, as torch takes them."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


PROGRESS = frozenset({"last_epoch", "_step_count", "_last_lr", "optimizer", "_is_initial"})
"""What a schedule keeps about where it is, and not about what was asked for."""

MOMENTA = frozenset({"betas", "momentum"})
"""Options of a group that some schedules move with the rate."""


@dataclass(frozen=True)
class Options:
    """The options with which an optimiser and its schedule were built, for when a checkpoint has restored others."""

    optimizer: Optimizer
    schedule: LRScheduler | None
    groups: list[dict[str, Any]]
    """Of the optimiser's groups of parameters, which themselves are left out."""
    planned: dict[str, Any]
    """Attributes of the schedule."""

    @classmethod
    def of(cls, configured: Mapping[str, Any]) -> "Options":
        """Take what `configure_optimizers` returns."""
        optimizer, schedule = configured["optimizer"], configured.get("lr_scheduler", {}).get("scheduler")
        groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        attributes = vars(schedule) if schedule is not None else {}
        planned = {key: copy(value) for key, value in attributes.items() if key not in PROGRESS}
        return cls(optimizer, schedule, groups, planned)

    def apply(self) -> None:
        """Give the options back; the rate is that of the schedule at the step where the training is."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        bases = [group.get("initial_lr", group["lr"]) for group in self.optimizer.param_groups]
        moving = MOMENTA if getattr(self.schedule, "cycle_momentum", False) else frozenset()
        for group, options in zip(self.optimizer.param_groups, self.groups, strict=True):
            group.update({key: value for key, value in options.items() if key not in moving})
        if self.schedule is None or self.schedule.last_epoch == 0:
            return
        vars(self.schedule).update(self.planned)
        for group, rate, base in zip(self.optimizer.param_groups, rates, bases, strict=True):
            group["lr"] = rate * (group["initial_lr"] / base) if base else group["initial_lr"]
        if isinstance(self.schedule, LambdaLR):  # others go on from the rate of the step before
            for group, share in zip(self.optimizer.param_groups, self.schedule.lr_lambdas, strict=True):
                group["lr"] = group["initial_lr"] * share(self.schedule.last_epoch)
        self.schedule._last_lr = [group["lr"] for group in self.optimizer.param_groups]

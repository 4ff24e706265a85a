"""DeepSpeed's ZeRO as a strategy of the trainer: each process keeps a part of the optimiser's state."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from itertools import count, islice
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.optim import Optimizer

from ulcompress.functional import distributed
from ulcompress.training.base import TrainingModule

NAMES: dict[str, dict[str, Any]] = {
    "deepspeed": {},
    "deepspeed_stage_1": {"stage": 1},
    "deepspeed_stage_2": {"stage": 2},
}
"""Of the strategies, as `--trainer.strategy` takes them, in place of Lightning's; and their options."""
ELEMENTWISE = ("Adadelta", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")
"""Optimisers of torch that change each number by itself, so that they may be given parts of flattened parameters."""
PRECISIONS = ("32-true", "bf16-mixed")


class ZeroStrategy(DDPStrategy):
    """Shares out the optimiser's state over all processes, and in stage 2 the gradients; weights are whole in each.

    Checkpoints are those of one process, so a training continues with any number of processes and any strategy.
    Lightning's own DeepSpeedStrategy writes folders of parts instead, and casts all weights to the precision of the
    training, those of entropy models and of what is frozen too.

    Source: Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, SC 2020,
    section 5.
    """

    def __init__(self, *, stage: int = 2, **options: Any):
        """Choose what is shared out.

        Args:
            stage: 1 for the optimiser's state, 2 for the gradients as well.
            options: Those of Lightning's DDPStrategy.

        Raises:
            ValueError: DeepSpeed is not installed, or the stage is another one.
        """
        if stage not in (1, 2):
            raise ValueError(f"stage must be 1 or 2, got {stage}; --trainer.strategy fsdp2 shares out weights as well")
        if find_spec("deepspeed") is None:
            raise ValueError(
                "trainer.strategy needs DeepSpeed: pip install 'ulcompress[deepspeed]', or choose fsdp2, which needs "
                "no other package"
            )
        super().__init__(**options)
        self.stage = stage

    def configure_ddp(self) -> None:
        """Begin early, since DeepSpeed copies the weights with which its optimiser goes on."""
        module = self.lightning_module
        assert module is not None
        if isinstance(module, TrainingModule):
            module.begin_fit_early()
        module.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        for tensor in (*module.parameters(), *module.buffers()):
            distributed.of_first(tensor.detach())

    def setup_optimizers(self, trainer: Trainer) -> None:
        """Build the optimiser and let DeepSpeed share it out; ValueError for what it cannot do."""
        super().setup_optimizers(trainer)
        (optimizer,) = self.optimizers
        self._check(trainer, optimizer)
        self._parameters = [list(group["params"]) for group in optimizer.param_groups]
        with _environment(LOCAL_RANK=str(self.root_device.index or 0), DS_ACCELERATOR=self.root_device.type):
            import deepspeed  # pyright: ignore[reportMissingImports]

            deepspeed.utils.logger.setLevel("ERROR")
            config = self._config(trainer)
            self._engine, *_ = deepspeed.initialize(model=self.model, optimizer=optimizer, config=config)
        self.model = self._engine

    def _check(self, trainer: Trainer, optimizer: Optimizer) -> None:
        kind = type(optimizer).__name__
        if kind not in ELEMENTWISE:
            raise ValueError(
                f"DeepSpeed flattens the parameters, whose shapes {kind} may use; choose an optimizer.kind of "
                f"{', '.join(ELEMENTWISE)}, or the strategy ddp"
            )
        if self.precision_plugin.precision not in PRECISIONS:
            raise ValueError(
                f"trainer.precision {self.precision_plugin.precision} is not trained by trainer.strategy deepspeed; "
                f"choose {' or '.join(PRECISIONS)}"
            )
        if trainer.gradient_clip_algorithm == "value":
            raise ValueError("DeepSpeed clips the gradient by its norm; leave out trainer.gradient_clip_algorithm")

    def _config(self, trainer: Trainer) -> dict[str, Any]:
        """Return DeepSpeed's configuration; Lightning counts accumulated batches and divides their losses."""
        autocast = {"enabled": self.precision_plugin.precision == "bf16-mixed", "dtype": "bfloat16"}
        return {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": trainer.gradient_clip_val or 0.0,
            "zero_optimization": {"stage": self.stage},
            "zero_allow_untested_optimizer": True,
            "torch_autocast": {**autocast, "lower_precision_safe_modules": []},  # gradients are sent as float32
        }

    def on_train_start(self) -> None:
        """Take what the preparation of a training has changed in the weights."""
        self._engine.optimizer.refresh_fp32_params()

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Reduce the gradients of accumulated batches too, since processes keep parts of their sums."""
        yield

    def backward(self, closure_loss: Tensor, optimizer: Optimizer | None, *args: Any, **kwargs: Any) -> Tensor:
        """Let DeepSpeed compute and reduce the gradients."""
        module = self.lightning_module
        assert module is not None
        self.precision_plugin.pre_backward(closure_loss, module)
        self._engine.set_gradient_accumulation_boundary(not module.trainer.fit_loop._should_accumulate())
        self._engine.backward(closure_loss, scale_wrt_gas=False)
        return self.precision_plugin.post_backward(closure_loss, module)

    def optimizer_step(
        self,
        optimizer: Optimizer,
        closure: Callable[[], Any],
        model: LightningModule | nn.Module | None = None,
        **kwargs: Any,
    ) -> Any:
        """Let DeepSpeed clip the gradients and make the step."""
        assert self.lightning_module is not None
        result = self.precision_plugin._wrap_closure(self.lightning_module, optimizer, closure)
        self._engine.step()
        return result

    def gradient_norm(self) -> Tensor:
        """Return the norm of the whole gradient, before it is clipped; all processes have to call this."""
        return self._engine.optimizer.scaled_global_norm()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the state that the optimiser of one process would have."""
        return whole_state(self._engine.basic_optimizer, self._parameters)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's part of the state in a checkpoint."""
        (state,) = checkpoint["optimizer_states"]
        share_out_state(self._engine, self._parameters, state)

    def teardown(self) -> None:
        """Give the module back without DeepSpeed's hooks."""
        if self.model is not self.lightning_module:
            self._engine.destroy()
            self.model = self.lightning_module
        super().teardown()


for _name, _options in NAMES.items():
    StrategyRegistry.register(_name, ZeroStrategy, "ZeRO of DeepSpeed", override=True, **_options)


def whole_state(optimizer: Optimizer, parameters: Sequence[Sequence[nn.Parameter]]) -> dict[str, Any]:
    """Return the state of a shared out optimiser as that of one process; all processes have to call this.

    Args:
        optimizer: Each of its groups has one flat parameter, of which this process keeps a part.
        parameters: The model's, by groups.
    """
    from deepspeed.utils import safe_get_full_optimizer_state  # pyright: ignore[reportMissingImports]

    states: dict[int, dict[str, Any]] = {}
    groups, numbers = [], count()
    for group, members in zip(optimizer.param_groups, parameters, strict=True):
        (part,), indices = group["params"], list(islice(numbers, len(members)))
        for number, parameter in zip(indices, members, strict=True):
            if kept := optimizer.state.get(part):
                states[number] = {  # each with a number of steps of its own, which optimisers change in place
                    key: safe_get_full_optimizer_state(parameter, key).cpu() if _alike(value, part) else deepcopy(value)
                    for key, value in kept.items()
                }
        groups.append({**group, "params": indices})
    return {"state": states, "param_groups": groups}


def share_out_state(engine: Any, parameters: Sequence[Sequence[nn.Parameter]], state: Mapping[str, Any]) -> None:
    """Give the optimiser of a DeepSpeed engine this process's part of the state of one process.

    Args:
        engine: Its optimiser has made no step yet.
        parameters: The model's, by groups.
        state: What `whole_state` returns, or the `state_dict` of an optimiser of torch.
    """
    from deepspeed.utils import safe_set_full_optimizer_state  # pyright: ignore[reportMissingImports]

    optimizer, whole = engine.basic_optimizer, []
    for group, saved, members in zip(optimizer.param_groups, state["param_groups"], parameters, strict=True):
        group.update({key: value for key, value in saved.items() if key != "params"})
        (part,), numbers = group["params"], saved["params"]
        for parameter, number in zip(members, numbers, strict=True):
            for key, value in state["state"].get(number, {}).items():
                if _alike(value, parameter):
                    optimizer.state[part].setdefault(key, torch.zeros_like(part, requires_grad=False))
                    whole.append((parameter, value, key))
                else:  # the number of steps
                    optimizer.state[part][key] = value
    engine.optimizer._lazy_init_hp_params_optimizer_state()
    for parameter, value, key in whole:
        safe_set_full_optimizer_state(parameter, value, key)


def _alike(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set variables of the environment within the block, from which alone DeepSpeed takes them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

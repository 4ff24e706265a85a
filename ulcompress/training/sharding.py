"""FSDP2 as a strategy of the trainer: each process keeps a part of every trained parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from ulcompress.denoisers import Denoiser
from ulcompress.functional import distributed
from ulcompress.training.base import TrainingModule

NAME = "fsdp2"
"""Of the strategy, as `--trainer.strategy` takes it."""


class FullyShardedStrategy(DDPStrategy):
    """Shares out trained parameters, their gradients and the optimiser's state over all processes.

    The blocks of a denoiser are gathered one after another while they are computed, everything else for the whole step;
    what is frozen is whole in each process, and during a validation all is. Checkpoints are those of one process, so a
    training continues with any number of processes and any strategy. Weights have the usual memory format, since parts
    of `channels_last` cannot be shared out.

    Source: Zhao et al., PyTorch FSDP, VLDB 2023; `torch.distributed.fsdp.fully_shard`, whose parameters are DTensors.
    """

    def configure_ddp(self) -> None:
        """Share out the parameters, in place of wrapping the module as DDP does."""
        module = self.lightning_module
        assert module is not None
        if isinstance(module, TrainingModule):
            module.begin_fit_early()
        for tensor in (*module.parameters(), *module.buffers()):
            distributed.of_first(tensor.detach())
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        shard(module, mesh, "training_step")

    def on_validation_start(self) -> None:
        """Gather all parameters, since callbacks code images in some processes only."""
        with torch.inference_mode(False):
            for part in _sharded(self.lightning_module):
                part.set_reshard_after_forward(False, recurse=False)
                part.unshard()
        for module in self.lightning_module.modules() if self.lightning_module else ():
            module._state_dict_pre_hooks.clear()  # torch's, which would share out again what a fingerprint is taken of

    def on_validation_end(self) -> None:
        """Keep a part of each parameter again."""
        for part in _sharded(self.lightning_module):
            part.set_reshard_after_forward(part is not self.lightning_module, recurse=False)
            part.reshard()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the whole weights, in every process."""
        return {name: _whole(value) for name, value in super().lightning_module_state_dict().items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the state that the optimiser of one process would have."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        moments = {key: {name: _whole(value) for name, value in each.items()} for key, each in state["state"].items()}
        return {**state, "state": moments}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's part of the states in a checkpoint."""
        states = [
            {**state, "state": dict(_shared_out(optimizer, state["state"]))}
            for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True)
        ]
        super().load_optimizer_state_dict({**checkpoint, "optimizer_states": states})


StrategyRegistry.register(NAME, FullyShardedStrategy, "Fully sharded data parallel, second version")


def shard(module: nn.Module, mesh: DeviceMesh, method: str) -> None:
    """Replace the trained parameters of a module by this process's parts, which `method` gathers while it runs."""
    module.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    options = {"mesh": mesh, "ignored_params": {p for p in module.parameters() if not p.requires_grad}}
    for denoiser in [each for each in module.modules() if isinstance(each, Denoiser)]:
        for block in denoiser.blocks():
            if any(p.requires_grad for p in block.parameters()):
                fully_shard(block, **options)
    fully_shard(module, **options)
    # A validation calls the blocks before the first step calls the root, which torch would refuse.
    module._get_fsdp_state()._lazy_init()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    register_fsdp_forward_method(module, method)


@contextmanager
def whole_parameters(module: nn.Module) -> Iterator[None]:
    """Gather the parameters of a sharded module within the block, at whose end the first process's values are kept."""
    parts = _sharded(module)
    for part in parts:
        part.unshard()
    yield
    changed = {name: p.detach().clone() for name, p in module.named_parameters()} if parts else {}
    for part in parts:
        part.reshard()
    with torch.no_grad():
        for name, p in module.named_parameters() if parts else ():
            if isinstance(p, DTensor):
                p.copy_(distribute_tensor(changed[name], p.device_mesh, p.placements))


def whole(value: Tensor) -> Tensor:
    """Return a tensor that may be shared out as a usual one; all processes have to call this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def _whole(value: Any) -> Any:
    return whole(value.detach()).cpu() if isinstance(value, DTensor) else value


def _sharded(module: nn.Module | None) -> list[FSDPModule]:
    return [] if module is None else [each for each in module.modules() if isinstance(each, FSDPModule)]


def _shared_out(optimizer: Optimizer, states: Mapping[int, Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the states of an optimiser's parameters by their numbers, shared out as the parameters are."""
    parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    for number, state in states.items():
        yield number, {name: _like(value, parameters[number]) for name, value in state.items()}


def _like(value: Any, parameter: Tensor) -> Any:
    if not (isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape):
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)

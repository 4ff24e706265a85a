"""What a training on several nodes says while processes have not come."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from torch.distributed import DistError

from ulcompress.functional import distributed

EVERY = 30.0
"""Seconds between two lines."""
ADVICE = (
    "start the same command on each node, and look at MASTER_ADDR, MASTER_PORT and NODE_RANK there; with several "
    "network interfaces also at GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME"
)


@contextmanager
def rendezvous_is_said(trainer: Trainer) -> Iterator[None]:
    """Say every half minute which nodes a training waits for, until the processes of all have met.

    Raises:
        ValueError: The environment does not say where they meet, or they have not met within the strategy's `timeout`.
    """
    environment = trainer._accelerator_connector.cluster_environment
    if trainer.num_nodes == 1:
        yield
        return
    _check(trainer, environment)
    ended = threading.Event()
    if environment.local_rank() == 0:
        threading.Thread(target=_say, args=(trainer, environment, ended), daemon=True).start()
    try:
        yield
    except DistError as error:
        if distributed.together():
            raise
        reason = str(error).splitlines()[0]
        raise ValueError(f"{_situation(trainer, environment)}, in vain: {reason}; {ADVICE}") from error
    finally:
        ended.set()


def _check(trainer: Trainer, environment: ClusterEnvironment) -> None:
    if not isinstance(environment, LightningEnvironment):  # others have it from a scheduler or from torchrun
        return
    needed = ["MASTER_PORT", *(["MASTER_ADDR"] if environment.node_rank() else [])]
    if missing := [name for name in needed if name not in os.environ]:
        raise ValueError(
            f"trainer.num_nodes is {trainer.num_nodes}, and {' and '.join(missing)} not set; on each node set "
            "MASTER_ADDR and MASTER_PORT to an address and a free port of the first one, and NODE_RANK to the node's "
            "number from 0"
        )


def _say(trainer: Trainer, environment: ClusterEnvironment, ended: threading.Event) -> None:
    start = time.monotonic()
    while not ended.wait(EVERY) and not distributed.together():
        seconds = round(time.monotonic() - start)
        print(f"ulcompress: {_situation(trainer, environment)}, for {seconds} s so far; {ADVICE}", file=sys.stderr)


def _situation(trainer: Trainer, environment: ClusterEnvironment) -> str:
    node, processes = environment.node_rank(), trainer.num_devices
    others = ", ".join(str(number) for number in range(trainer.num_nodes) if number != node)
    place = f"{environment.main_address}:{environment.main_port}"
    return (
        f"node {node} of {trainer.num_nodes}, with the ranks {node * processes} to {(node + 1) * processes - 1} of "
        f"{trainer.num_nodes * processes}, waits at {place} for node {others}"
    )

"""How many cores this process may use, and how many threads it does use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cores() -> int:
    """Return how many cores the machine, the affinity and the container's quota (cgroup) leave to this process."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([here, *(max(1, int(quota)) for quota in _quotas())])


def threads(processes: int = 1) -> int:
    """Return how many threads each of several processes on this machine should have: its part of the cores.

    OMP_NUM_THREADS, which counts for each process, is an upper bound.
    """
    part = max(1, cores() // processes)
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # the others are of nested loops
    return min(part, int(wanted)) if wanted.isdecimal() and int(wanted) > 0 else part


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Let torch, Pillow's decoders and programs that are started have `count` threads, and as many as before after."""
    import torch

    before, variable = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)
    decoders = limit_decoders(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        limit_decoders(*decoders)
        del os.environ["OMP_NUM_THREADS"]
        if variable is not None:
            os.environ["OMP_NUM_THREADS"] = variable


def limit_decoders(avif: int, jxl: int | None = None) -> tuple[int, int]:
    """Set the threads of Pillow's decoders of AVIF and JPEG XL, which take all otherwise; return those of before."""
    from PIL import AvifImagePlugin

    before, AvifImagePlugin.DEFAULT_MAX_THREADS = AvifImagePlugin.DEFAULT_MAX_THREADS, avif
    with suppress(ImportError):
        from pillow_jxl import JpegXLImagePlugin

        before_jxl, JpegXLImagePlugin.DECODE_THREADS = JpegXLImagePlugin.DECODE_THREADS, avif if jxl is None else jxl
        return before, before_jxl
    return before, avif


def _quotas() -> Iterator[float]:
    """Yield the quotas, in cores, of the cgroups that this process is in: of version 2, and of version 1's `cpu`."""
    for line in _read(MEMBERSHIP).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS
        # Within a container the path may be that of the host: then only the root is there.
        folder = root / path.strip("/")
        for group in (folder, *folder.parents):
            yield from _quota(group)
            if group == root:
                break


def _quota(group: Path) -> Iterator[float]:
    quota, period = [*_read(group / "cpu.max").split(), "", ""][:2]
    if not quota:
        quota, period = (_read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:
        yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

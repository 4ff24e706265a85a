"""What the processes of `test_processes` do, in a module that they can import."""

import os
import signal
import sys
import time

PATIENCE = 60


def square_slowly(share, report):
    """The process of the even numbers begins when that of the odd ones has written a file."""
    numbers, folder = share
    if numbers[0] % 2 == 0:
        deadline = time.monotonic() + PATIENCE
        while not (folder / "odd").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    for number in numbers:
        report((number, number**2, os.environ["OMP_NUM_THREADS"]))
    if numbers[0] % 2:
        (folder / "odd").touch()


def end(share, report):
    report(share)
    if share == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if share == "left":
        sys.exit(0)


def refuse(share, report):
    raise ValueError(f"no\nsuch {share}")


def wait(folder, report):
    try:
        report(os.getpid())
        time.sleep(PATIENCE)
    finally:
        (folder / str(os.getpid())).touch()

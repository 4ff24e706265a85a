"""A command of ulcompress as a process of a study, which ends when the study's process does.

`python -m ulcompress.training.study.child fit ...` is `ulcompress fit ...`. Its standard input is a pipe that the
study's process holds open and that the system closes when that process ends, whatever ends it.
"""

import os
import signal
import sys
import threading
import time

GRACE = 120.0
"""Seconds that a step and its checkpoint may take when the study's process has ended."""


def _end_with_parent() -> None:
    while os.read(0, 1 << 10):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # a training finishes its step and writes a checkpoint
    time.sleep(GRACE)
    os._exit(128 + signal.SIGKILL)


if __name__ == "__main__":
    from ulcompress.commands.main import main

    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv[0] = "ulcompress"
    main()

import os
import signal
import sys

import pytest

from ulcompress.commands.endings import complete


def end_by(number):
    os.kill(os.getpid(), number)
    signal.pause()


@pytest.mark.parametrize(
    ("action", "status", "line"),
    [
        (lambda: None, 0, ""),
        (lambda: 1, 1, ""),
        (lambda: end_by(signal.SIGTERM), 143, "ulcompress: ended by SIGTERM\n"),
        (lambda: end_by(signal.SIGHUP), 129, "ulcompress: ended by SIGHUP\n"),
        (lambda: end_by(signal.SIGINT), 130, "ulcompress: interrupted\n"),
        (lambda: sys.exit(0), 1, "ulcompress: a library ended the command before its work was done (0)\n"),
        (lambda: sys.exit(3), 3, "ulcompress: a library ended the command before its work was done (3)\n"),
        (lambda: sys.exit("so"), 1, "ulcompress: a library ended the command before its work was done (so)\n"),
    ],
)
def test_only_work_that_is_done_is_a_success(action, status, line, capsys):
    assert complete(action) == status
    assert capsys.readouterr().err == line
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_the_caller_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert complete(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)

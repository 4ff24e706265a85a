"""`ulcompress serve`: a page on this machine on which to try the codecs."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from ulcompress.commands.options import Verbs, add_trust, positive
from ulcompress.commands.streams import complain, report
from ulcompress.serving.limits import Limits

PORT = 8000


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("serve", help="a page on this machine on which to try the codecs")
    add_trust(parser)
    parser.add_argument(
        "--codec",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="codecs to offer, as for `compress` (default: all that are bundled or imported)",
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)"
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"port; 0 takes a free one (default: {PORT})")
    limits = parser.add_argument_group("limits")
    for name, unit in (
        ("pixels", "pixels of an image"),
        ("megabytes", "MiB of a file that is sent"),
        ("steps", "sampling steps"),
        ("seconds", "seconds of a job, without the time for which it waits"),
        ("waiting", "jobs at a time, the running one included"),
    ):
        default = getattr(Limits, name)
        limits.add_argument(
            f"--max-{name}", type=positive, default=default, metavar="N", help=f"most {unit} (default: {default})"
        )
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Answer requests until Ctrl-C; return the exit status."""
    try:
        from aiohttp import web
    except ImportError as error:
        raise ValueError('the page needs aiohttp; run `pip install "ulcompress[serve]"`') from error
    from ulcompress.serving.application import application, is_loopback
    from ulcompress.serving.codecs import ServedCodecs

    with _listening(options.host, options.port) as listening:
        limits = Limits(**{each.name: getattr(options, f"max_{each.name}") for each in fields(Limits)})
        left_out = complain if options.codec is None else None  # one that was asked for must be there
        named = _directories(options.codec)
        codecs = ServedCodecs(named, device=options.device, trust=options.trust, left_out=left_out)
        if not codecs.facts:
            raise ValueError("there is no codec to offer; name one by --codec")
        loopback = is_loopback(options.host)
        host, port = listening.getsockname()[:2]
        if not loopback:
            complain(f"everybody who can reach {host} can use this machine's codecs")
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        report(f"{address} offers {', '.join(codecs.facts)}; Ctrl-C ends it")
        web.run_app(
            application(codecs, limits, loopback=loopback),
            sock=listening,
            print=None,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=1.0,
        )
    return 0


def _directories(names: list[str] | None) -> dict[str, Path]:
    """Return the directories of the codecs by the names that the page shows."""
    from ulcompress.pretrained import bundled_codecs, imported_codecs, locate

    if names is not None:
        return {name: locate(name) for name in names}
    # Of two of one name the bundled one, as for all commands.
    return {directory.name: directory for directory in (*imported_codecs(), *bundled_codecs())}


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Listen on an address; OSError in one line where that cannot be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise OSError(f"cannot listen on {host}, port {port} ({error}); give another --port or --host") from error
    with listening:
        yield listening

"""The page and its interface over HTTP.

    GET  /            the page
    GET  /codecs      the codecs and the limits
    POST /compress    an image file; codec, rate, max_bytes, caption, steps and seed are in the query
    POST /restore     a .ulc file; steps and seed are in the query

The last two answer with lines of JSON: {"progress": ...} any number of times, then {"result": ...} with the files in
base64, or {"error": ...}. What is refused before it is a job has an error's status and one such line. Nothing is kept
between requests, and a request that its sender closes stops its job.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web
from yarl import URL

from ulcompress.codec import Codec
from ulcompress.functional.allocation import allocating
from ulcompress.functional.lines import one_line
from ulcompress.records import Sampling
from ulcompress.serving.codecs import ServedCodecs
from ulcompress.serving.jobs import JobStopped, ServedJob
from ulcompress.serving.limits import Limits
from ulcompress.serving.results import Result, compress, restore

PAGE = Path(__file__).parent / "page"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Of every answer: the page neither loads from elsewhere nor sends there, and no other page can show it."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Lines = asyncio.Queue[dict[str, Any] | None]
"""Lines of an answer; None where no more will come."""
log = logging.getLogger(__name__)


def application(codecs: ServedCodecs, limits: Limits, *, loopback: bool = True) -> web.Application:
    """Return the application.

    Args:
        codecs: The codecs that are offered.
        limits: What a visitor may take.
        loopback: Answer only requests that name this machine by a loopback address: others come from a page elsewhere
            whose name was made to lead here (DNS rebinding).
    """
    service = Service(codecs, limits, loopback=loopback)
    middlewares = [_errors_as_json, _own_page_only(loopback)]
    app = web.Application(client_max_size=limits.bytes, middlewares=middlewares)
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(service.close)
    for path, name in (("/", "index.html"), ("/style.css", "style.css"), ("/script.js", "script.js")):
        app.router.add_get(path, _file(PAGE / name))
    app.router.add_get("/codecs", service.codecs)
    app.router.add_post("/compress", service.compress)
    app.router.add_post("/restore", service.restore)
    return app


class Service:
    """The handlers of the requests; a single thread does their jobs, one after another."""

    def __init__(self, codecs: ServedCodecs, limits: Limits, *, loopback: bool):
        self._loopback = loopback
        self._codecs = codecs
        self._limits = limits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="job")
        self._jobs: set[ServedJob] = set()

    async def codecs(self, request: web.Request) -> web.Response:
        """Describe the codecs and the limits."""
        facts = [asdict(each) for each in self._codecs.facts.values()]
        limits = asdict(self._limits) | {"bytes": self._limits.bytes}
        return web.json_response({"codecs": facts, "limits": limits, "loopback": self._loopback})

    async def compress(self, request: web.Request) -> web.StreamResponse:
        """Compress the image in the body, and restore it."""
        name = request.query.get("codec", "")
        if name not in self._codecs.facts:
            raise web.HTTPNotFound(text=f"no codec {name!r} here; there are {', '.join(self._codecs.facts)}")
        coding = {
            "caption": request.query.get("caption") or None,
            "rate": _number(request, "rate"),
            "max_bytes": _number(request, "max_bytes"),
        }
        return await self._answer(request, lambda data: name, compress, coding)

    async def restore(self, request: web.Request) -> web.StreamResponse:
        """Restore the image of the .ulc file in the body."""
        pixels = self._limits.pixels
        return await self._answer(request, lambda data: self._codecs.name_for(data, max_pixels=pixels), restore, {})

    async def close(self, app: web.Application) -> None:
        """Stop all jobs."""
        for job in self._jobs:
            job.stop()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _answer(
        self,
        request: web.Request,
        name_for: Callable[[bytes], str],
        work: Callable[..., Result],
        options: dict[str, Any],
    ) -> web.StreamResponse:
        """Do the job of a request, and answer with its progress and its result, a line each."""
        sampling = Sampling(steps=_number(request, "steps"), seed=_number(request, "seed"))
        if (sampling.steps or 0) > self._limits.steps:
            raise ValueError(
                f"got {sampling.steps} steps; give at most {self._limits.steps}, or allow more (--max-steps)"
            )
        if len(self._jobs) >= self._limits.waiting:
            raise web.HTTPServiceUnavailable(text=f"{len(self._jobs)} jobs are here already; try again later")
        lines = Lines()
        job = ServedJob(self._limits.seconds, _reporter(lines))
        self._jobs.add(job)
        try:
            data = await self._body(request)
            keywords = options | {"sampling": sampling, "max_pixels": self._limits.pixels, "job": job}
            outcome = self._start(job, name_for(data), lambda codec: work(codec, data, **keywords), lines)
            return await _stream(request, lines, outcome, self._limits.seconds)
        finally:  # reached as well when the sender closes the connection, which cancels the handler
            job.stop()
            self._jobs.discard(job)

    def _start(
        self, job: ServedJob, name: str, work: Callable[[Codec], Result], lines: Lines
    ) -> asyncio.Future[dict[str, Any]]:
        """Let the thread do a job after those before it; return its last line to come."""

        def whole() -> dict[str, Any]:
            job.begin(f"loading {name}")
            return {"result": {"codec": name} | work(self._codecs.load(name)).as_json()}

        if others := len(self._jobs) - 1:
            lines.put_nowait({"progress": {"doing": f"waiting for {others} other job{'s' * (others > 1)}"}})
        outcome = asyncio.get_running_loop().run_in_executor(self._thread, _outcome, whole)
        outcome.add_done_callback(lambda _: lines.put_nowait(None))
        return outcome

    async def _body(self, request: web.Request) -> bytes:
        limits, announced = self._limits, request.content_length or 0
        too_large = f"the file has more than {limits.megabytes} MiB; make it smaller, or allow more (--max-megabytes)"
        if announced > limits.bytes:
            raise web.HTTPRequestEntityTooLarge(limits.bytes, announced, text=too_large)
        try:
            async with asyncio.timeout(limits.seconds):
                return await request.read()
        except TimeoutError as error:
            raise web.HTTPRequestTimeout(text=f"the file did not arrive within {limits.seconds:g} s") from error
        except web.HTTPRequestEntityTooLarge as error:
            raise web.HTTPRequestEntityTooLarge(limits.bytes, announced, text=too_large) from error


def _outcome(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the last line of an answer."""
    try:
        with allocating("this image"):
            return work()
    except (ValueError, OSError, MemoryError) as error:
        return {"error": one_line(error)}
    except JobStopped:
        return {"error": "stopped"}
    except Exception as error:
        log.exception("a job failed")
        return {"error": f"the job failed ({type(error).__name__}: {one_line(error)}); the server's output says where"}


def _reporter(lines: Lines) -> Callable[[dict[str, Any]], None]:
    """Return the function by which the thread of a job reports its progress."""
    loop = asyncio.get_running_loop()

    def report(progress: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(lines.put_nowait, {"progress": progress})

    return report


async def _stream(
    request: web.Request, lines: Lines, outcome: asyncio.Future[dict[str, Any]], seconds: float
) -> web.StreamResponse:
    """Send the lines of a job while it runs, and then the last one, to a visitor who takes each within `seconds`."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    while (line := await lines.get()) is not None:
        await _write(response, line, seconds)
    await _write(response, await outcome, seconds)
    return response


async def _write(response: web.StreamResponse, line: dict[str, Any], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await response.write(json.dumps(line, allow_nan=False).encode() + b"\n")


def _number(request: web.Request, name: str) -> int | None:
    """Return a number of the query; None where it is missing or empty."""
    text = request.query.get(name, "").strip()
    try:
        return int(text) if text else None
    except ValueError as error:
        raise ValueError(f"{name} must be a whole number, got {text!r}") from error


def _file(path: Path) -> Handler:
    async def send(request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    return send


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with a line of JSON where a request is refused."""
    try:
        return await handler(request)
    except web.HTTPError as error:
        return web.json_response({"error": error.text}, status=error.status)
    except ValueError as error:
        return web.json_response({"error": one_line(error)}, status=400)


def _own_page_only(loopback: bool) -> Any:
    """Return the middleware that refuses what pages from elsewhere send through the visitor's browser."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is not None and URL(origin).authority != request.host:
            raise web.HTTPForbidden(text=f"a page of {origin} asks; only the page of {request.host} may")
        if loopback and not is_loopback(URL(f"//{request.host}").host or ""):
            raise web.HTTPForbidden(text=f"asked as {request.host}; only addresses of this machine are answered")
        return await handler(request)

    return check


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine, as `localhost` or by a loopback address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""The interface of the page over HTTP, in this process."""

import asyncio
import io
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import urllib.request
from base64 import b64decode

import pytest
import torch
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image

from ulcompress.commands.main import run
from ulcompress.evaluation import psnr
from ulcompress.images import from_pil, to_pil
from ulcompress.pretrained import load
from ulcompress.serving.application import PAGE, application
from ulcompress.serving.limits import Limits

LONG = {"codec": "tiny", "steps": "1000"}


@pytest.fixture
def visit(codecs):
    """Return a function that lets a visitor, a coroutine function of a client, talk to the application."""

    def let(visitor, **limits):
        async def meet():
            async with TestClient(TestServer(application(codecs, Limits(**limits)))) as client:
                return await visitor(client)

        return asyncio.run(meet())

    return let


async def answer(client, path, data, **query):
    """Return the status and the lines of an answer."""
    async with client.post(path, params=query, data=data) as response:
        return response.status, [json.loads(line) for line in (await response.text()).splitlines()]


def image_of(text):
    return from_pil(Image.open(io.BytesIO(b64decode(text))))


def test_a_photograph_is_restored_as_the_library_does_it(visit, photo, tiny):
    query = {"codec": "tiny", "caption": "a red cup", "steps": "3", "seed": "5"}
    status, lines = visit(lambda client: answer(client, "/compress", photo, **query))
    image = from_pil(Image.open(io.BytesIO(photo)))
    data = tiny.compress(image, "a red cup")
    restored = tiny.decompress(data, steps=3, seed=5)
    result = lines[-1]["result"]
    assert status == 200 and b64decode(result["file"]) == data
    assert torch.equal(image_of(result["restored"]), from_pil(to_pil(restored)))
    assert torch.equal(image_of(result["original"]), image)
    assert (result["width"], result["height"], result["bytes"]) == (50, 33, len(data))
    assert result["bpp"] == 8 * len(data) / (50 * 33)
    assert result["psnr"] == psnr(from_pil(to_pil(restored)), image)
    assert set(result["streams"]) == {"header", "text", "spatial"}
    assert len(data) - 1 <= sum(result["streams"].values()) <= len(data)
    steps = [line["progress"]["step"] for line in lines[:-1]]
    assert steps[-3:] == [1, 2, 3] and lines[-2]["progress"]["steps"] == 3


def test_a_file_is_opened_with_the_codec_that_it_names(visit, photo, directories):
    staged = load(directories["staged"])
    data = staged.compress(from_pil(Image.open(io.BytesIO(photo))), rate=1)
    status, lines = visit(lambda client: answer(client, "/restore", data, seed="7"))
    result = lines[-1]["result"]
    assert status == 200 and result["codec"] == "staged" and b64decode(result["file"]) == data
    expected = from_pil(to_pil(staged.decompress(data, seed=7)))
    assert torch.equal(image_of(result["restored"]), expected)
    assert result["original"] is None and result["psnr"] is None


def test_rates_and_exact_sizes(visit, photo):
    async def visitor(client):
        lowest = await answer(client, "/compress", photo, codec="staged", rate="1")
        exact = await answer(client, "/compress", photo, codec="staged", max_bytes="11")
        return [lines[-1]["result"]["bytes"] for _, lines in (lowest, exact)]

    lowest, exact = visit(visitor)
    assert exact == 11 and lowest != 11


def test_the_page_knows_what_each_codec_can(visit):
    async def visitor(client):
        return await (await client.get("/codecs")).json()

    offered = visit(visitor, pixels=9)
    can = {codec["name"]: (codec["rates"], codec["captions"], codec["divisible"]) for codec in offered["codecs"]}
    assert can == {"tiny": (1, True, True), "staged": (2, True, True), "guided": (1, False, True)}
    assert offered["limits"]["pixels"] == 9 and offered["limits"]["bytes"] == 32 << 20


def test_what_cannot_be_done_is_one_clear_line(visit, photo):
    refused = [
        ("/compress", {"codec": "none"}, 404, "no codec 'none' here; there are tiny, staged, guided"),
        ("/compress", {"codec": "tiny", "rate": "x"}, 400, "rate must be a whole number, got 'x'"),
        ("/compress", {"codec": "tiny", "steps": "-1"}, 400, "steps must be 0 or 1 or more, got -1"),
        ("/compress", {"codec": "tiny", "seed": "-1"}, 400, "seed must be 0 to 2**64 - 1, got -1"),
        ("/compress", {"codec": "staged", "rate": "3"}, 200, "this codec has the rates 1 to 2"),
        ("/compress", {"codec": "staged", "rate": "1", "max_bytes": "9"}, 200, "give one of them"),
        ("/compress", {"codec": "guided", "caption": "a cup"}, 200, "this codec has no text conditioner"),
        ("/compress", {"codec": "tiny", "max_bytes": "3"}, 200, "an image of this size takes at least"),
        ("/restore", {}, 400, "not a .ulc file: it starts with the byte 0x89"),
        ("/elsewhere", {}, 404, "Not Found"),
    ]

    async def visitor(client):
        return [await answer(client, path, photo, **query) for path, query, _, _ in refused]

    for (_, query, status, message), (got, lines) in zip(refused, visit(visitor), strict=True):
        assert got == status and message in lines[-1]["error"] and "\n" not in lines[-1]["error"], query


def test_foreign_files_are_refused(visit, photo, tiny_staged_codec):
    data = tiny_staged_codec.compress(from_pil(Image.open(io.BytesIO(photo))))

    async def visitor(client):
        return [
            await answer(client, "/restore", data),
            await answer(client, "/restore", data[:-1]),
            await answer(client, "/compress", b"no image", codec="tiny"),
        ]

    other, damaged, text = (lines[-1]["error"] for _, lines in visit(visitor))
    assert f"needs the codec {tiny_staged_codec.fingerprint.hex()}, which is not offered here" in other
    assert "truncated or damaged" in damaged
    assert text == "the image: not an image of a known format; convert it to PNG, JPEG or WebP"


def test_limit_of_the_pixels(visit, photo, tiny):
    data = tiny.compress(torch.rand(3, 64, 64))

    async def visitor(client):
        return await answer(client, "/compress", photo, codec="tiny"), await answer(client, "/restore", data)

    (_, sent), (status, opened) = visit(visitor, pixels=1000)
    assert "50 x 33 pixels, more than the limit of 1000" in sent[-1]["error"]
    assert status == 400 and "64 x 64 pixels, more than 1000" in opened[-1]["error"]


def test_limit_of_the_steps(visit, photo):
    status, lines = visit(lambda client: answer(client, "/compress", photo, codec="tiny", steps="9"), steps=8)
    assert status == 400 and lines[-1]["error"].startswith("got 9 steps; give at most 8")


def test_limit_of_the_time(visit, photo):
    _, lines = visit(lambda client: answer(client, "/compress", photo, **LONG), seconds=0.5)
    assert lines[-1]["error"].startswith("took more than 0.5 s; take a smaller image or fewer steps")


def test_limit_of_the_file(visit):
    async def pieces():
        for _ in range(20):
            yield bytes(1 << 16)

    async def visitor(client):
        return [
            await answer(client, "/compress", body, codec="tiny") for body in (io.BytesIO(bytes(20 << 16)), pieces())
        ]

    for status, lines in visit(visitor, megabytes=1):
        assert status == 413 and lines[-1]["error"].startswith("the file has more than 1 MiB; make it smaller")


def test_a_file_that_does_not_arrive_is_not_waited_for(visit):
    async def stalled():
        yield b"the beginning"
        await asyncio.sleep(60)

    status, lines = visit(lambda client: answer(client, "/compress", stalled(), codec="tiny"), seconds=0.2)
    assert status == 408 and lines == [{"error": "the file did not arrive within 0.2 s"}]


def test_other_pages_and_other_names_are_refused(visit, photo):
    async def visitor(client):
        async def status(**headers):
            async with client.post("/compress", params={"codec": "tiny"}, data=photo, headers=headers) as response:
                return response.status, await response.text()

        own = f"{client.host}:{client.port}"
        return [
            await status(Origin="http://elsewhere.example"),
            await status(Host="elsewhere.example"),
            await status(Origin=f"http://{own}", Host=own),
        ]

    elsewhere, renamed, own = visit(visitor)
    assert elsewhere[0] == 403 and "a page of http://elsewhere.example asks" in elsewhere[1]
    assert renamed[0] == 403 and "asked as elsewhere.example" in renamed[1]
    assert own[0] == 200


def test_the_page_loads_nothing_from_elsewhere(visit):
    async def visitor(client):
        return [(await client.get(path)) for path in ("/", "/style.css", "/script.js")]

    for response in visit(visitor):
        assert response.status == 200
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert not [path.name for path in PAGE.iterdir() if re.search(r"https?://", path.read_text())]


async def first_step(response):
    """Read an answer until its job samples."""
    async for line in response.content:
        if json.loads(line)["progress"]["step"]:
            return


def test_a_request_that_is_closed_stops_its_job(visit, photo, codecs):
    calls = []

    async def visitor(client):
        codecs.load("tiny").decoder.denoiser.register_forward_hook(lambda *_: calls.append(1))
        response = await client.post("/compress", params=LONG, data=photo)
        await first_step(response)
        response.close()
        return await answer(client, "/compress", photo, codec="tiny", steps="1")

    _, lines = visit(visitor)
    assert "result" in lines[-1] and 2 <= len(calls) < 1000


def test_jobs_run_one_at_a_time(visit, photo):
    async def visitor(client):
        first = await client.post("/compress", params=LONG, data=photo)
        await first_step(first)
        second = await client.post("/compress", params={"codec": "staged"}, data=photo)
        waits = json.loads(await second.content.readline())
        refused = await answer(client, "/compress", photo, codec="staged")
        first.close()
        return waits, refused, (await second.text()).splitlines()

    waits, (status, refusal), lines = visit(visitor, waiting=2)
    assert waits["progress"]["doing"] == "waiting for 1 other job"
    assert status == 503 and "2 jobs are here already" in refusal[-1]["error"]
    assert "result" in json.loads(lines[-1])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_the_command_answers_until_it_is_interrupted(directories, capsys):
    port, seen = free_port(), []

    def visitor():
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/codecs", timeout=5) as response:
                    seen.append(json.load(response))
                break
            except OSError:
                time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=visitor)
    thread.start()
    status = run(["serve", "--port", str(port), "--codec", str(directories["tiny"]), "--max-pixels", "99"])
    thread.join()
    assert status == 0 and seen[0]["limits"]["pixels"] == 99
    assert f"http://127.0.0.1:{port}/ offers {directories['tiny']}; Ctrl-C ends it" in capsys.readouterr().out


def test_the_command_refuses_in_one_line(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run(["serve", "--port", str(taken.getsockname()[1])]) == 1
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err
    assert run(["serve", "--port", "0", "--codec", "nothing"]) == 1
    assert "no codec 'nothing'" in capsys.readouterr().err
    monkeypatch.setattr("ulcompress.commands.serve._directories", lambda names: {})
    assert run(["serve", "--port", "0"]) == 1
    assert "no codec to offer; name one by --codec" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    assert run(["serve"]) == 1
    assert 'run `pip install "ulcompress[serve]"`' in capsys.readouterr().err

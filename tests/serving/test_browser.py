"""The page in headless Chromium: that of Playwright, or one on the path."""

import asyncio
import threading

import pytest
from aiohttp import web

from ulcompress.serving.application import application
from ulcompress.serving.limits import Limits

sync_api = pytest.importorskip("playwright.sync_api")


@pytest.fixture
def address(codecs):
    """The address of the page, which a thread serves."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    runner = web.AppRunner(application(codecs, Limits(megabytes=1)), handler_cancellation=True, shutdown_timeout=1.0)
    found = []

    async def start():
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.append("http://{}:{}/".format(*runner.addresses[0]))
        ready.set()

    def serve():
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(30)
    yield found[0]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture
def tab(browser, address):
    """The page in a browser; in the end it has asked nobody else, and complained of nothing."""
    tab, asked, complaints = browser.new_page(), [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(address)
    tab.wait_for_selector("#codec option", state="attached")
    yield tab
    tab.close()
    assert {url for url in asked if not url.startswith((address, "blob:", "data:"))} == set()
    assert complaints == []


def test_a_photograph_is_compressed_downloaded_and_opened_again(tab, photo, tmp_path):
    (tmp_path / "photo.png").write_bytes(photo)
    assert tab.locator("#run").is_disabled()
    tab.set_input_files("#file", tmp_path / "photo.png")
    tab.select_option("#codec", "staged")
    assert tab.locator("#rate option").count() == 2 and tab.locator("#rate").input_value() == "2"
    tab.fill("#max_bytes", "12")
    assert tab.locator("#rate").is_disabled()
    tab.click("#run")
    tab.wait_for_selector("#result:not([hidden])")
    assert "12\n" in tab.inner_text("#numbers") and "PSNR" in tab.inner_text("#numbers")
    assert tab.locator("#streams dt").all_inner_texts() == ["header", "text", "spatial"]
    assert [tab.locator(image).evaluate("node => node.naturalWidth") for image in ("#original", "#restored")] == [
        50,
        50,
    ]
    slider = tab.locator("#border")
    slider.focus()
    slider.press("ArrowRight")
    assert tab.locator("#stage").evaluate("node => node.style.getPropertyValue('--border')") == "50.5%"
    with tab.expect_download() as download:
        tab.click("#save-file")
    download.value.save_as(tmp_path / "photo.ulc")
    assert (tmp_path / "photo.ulc").stat().st_size == 12 and download.value.suggested_filename == "photo.ulc"
    tab.set_input_files("#file", tmp_path / "photo.ulc")
    assert tab.locator("#codec").is_disabled() and tab.inner_text("#run") == "Restore"
    tab.click("#run")
    tab.wait_for_selector("#left", state="hidden")
    assert "PSNR" not in tab.inner_text("#numbers") and tab.locator("#restored").is_visible()


def test_errors_and_cancelling_are_one_line(tab, photo, tmp_path):
    (tmp_path / "photo.png").write_bytes(photo)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "large.png").write_bytes(bytes(2 << 20))
    error = tab.locator("#error")
    for name, message in {"text.png": "the image: not an image", "large.png": "the file has more than 1 MiB"}.items():
        tab.set_input_files("#file", tmp_path / name)
        assert error.is_hidden()
        tab.click("#run")
        error.wait_for()
        assert error.inner_text().startswith(message)
    tab.set_input_files("#file", tmp_path / "photo.png")
    tab.fill("#steps", "1000")
    tab.click("#run")
    tab.wait_for_selector("#doing:has-text('step')")
    tab.click("#cancel")
    error.wait_for()
    assert error.inner_text() == "cancelled" and tab.locator("#run").is_enabled()

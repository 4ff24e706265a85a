import http.server
import io
import re
import tarfile
import threading
from functools import partial

import numpy as np
import pytest
from PIL import Image

from ulcompress.data import storage


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Return the folder of indices and copies of this test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ULCOMPRESS_CACHE", str(folder))
    monkeypatch.setattr(storage, "WAIT", 0.01)
    return folder


@pytest.fixture(scope="session")
def write_shard():
    """Return a function that writes a tar file of some images, number `first` and following, with two captions each."""

    def write(path, first, count, mode="w"):
        with tarfile.open(path, mode) as shard:
            for i in range(first, first + count):
                file = io.BytesIO()
                pixels = np.random.default_rng(i).integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(file, "PNG")
                for name, data in [(f"{i}.png", file.getvalue()), (f"{i}.txt", f"a {i}\nthe {i}\n".encode())]:
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    shard.addfile(member, io.BytesIO(data))

    return write


class Handler(http.server.SimpleHTTPRequestHandler):
    """Sends files, and ranges of them; fails as often as the server was told."""

    def do_GET(self):
        name = self.path.lstrip("/")
        self.server.requests.append(name)
        if self.server.failures.get(name, 0) > 0:
            self.server.failures[name] -= 1
            self.send_error(503)
            return
        asked = re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = self.server.folder / name
        if not self.server.ranges or not asked or not path.exists():
            super().do_GET()
            return
        content = path.read_bytes()
        start, end = int(asked[1]), min(int(asked[2]) + 1, len(content))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.wfile.write(content[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """Serve the folder `served`; the server has its `url`, whether it sends `ranges`, `failures` and `requests`."""
    (tmp_path / "served").mkdir()
    handler = partial(Handler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.folder = tmp_path / "served"
        server.url = f"http://127.0.0.1:{server.server_port}"
        server.ranges, server.failures, server.requests = True, {}, []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()

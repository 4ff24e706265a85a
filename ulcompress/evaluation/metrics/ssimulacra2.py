"""SSIMULACRA 2, by libjxl's own program where it is on the path, else by a port to Python."""

from __future__ import annotations

import math
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from ulcompress.evaluation.metrics.base import Pair, PairMetric
from ulcompress.images import write_image

SMALLEST_SIDE = 8
"""Smallest side of an image for which it is defined, in pixels."""


class SSIMULACRA2(PairMetric):
    """Sneyers' metric of libjxl: 100 for equal images, 90 hardly distinguishable, below 30 poor, no lower bound."""

    better = "higher"

    def __init__(self):
        """Look for the program `ssimulacra2`."""
        self.program = shutil.which("ssimulacra2")
        self.files = {}
        port = f"Python port {version('ssimulacra2')}"
        # A port is not the reference, so its name differs.
        self.name = "ssimulacra2" if self.program else "ssimulacra2-port"
        self.label = "SSIMULACRA 2" if self.program else "SSIMULACRA 2 (port)"
        self.protocol = f"SSIMULACRA 2, {'program of libjxl on the path' if self.program else port}, 8-bit RGB files"

    def __call__(self, pair: Pair) -> float:
        """Return at most 100; NaN for an image with a side below 8 pixels."""
        if min(pair.original.shape[1:]) < SMALLEST_SIDE:
            return math.nan
        with TemporaryDirectory() as folder:
            paths = [Path(folder) / name for name in ("original.png", "restored.png")]
            for path, image in zip(paths, (pair.original, pair.restored), strict=True):
                write_image(image, path)
            return self._by_program(paths) if self.program else self._by_port(paths)

    def _by_program(self, paths: list[Path]) -> float:
        done = subprocess.run([str(self.program), *map(str, paths)], capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"ssimulacra2 ended with {done.returncode}: {done.stderr.strip()}")
        return float(done.stdout.split()[-1])

    def _by_port(self, paths: list[Path]) -> float:
        from ssimulacra2 import compute_ssimulacra2

        original, restored = map(str, paths)
        return float(compute_ssimulacra2(original, restored))

import numpy as np
import pytest
from PIL import Image

from ulcompress.evaluation.page import write_page

METRICS = [("psnr", "PSNR (dB)", "higher", "image"), ("lpips-alex", "LPIPS (AlexNet)", "lower", "image"),
           ("fid", "FID", "lower", "set")]  # fmt: skip
CONTESTANTS = [("mini", "mini", None), ("avif at mini", "avif", "mini"), ("mini steps=8", "mini", None),
               ("avif at mini steps=8", "avif", "mini steps=8")]  # fmt: skip


@pytest.fixture
def results():
    """Return a function that makes up the content of `results.json`."""

    def content(images=3, *, kept=True):
        names = [f"image{index:03}" for index in range(images)]
        numbers = np.random.default_rng(0)
        return {
            "format": 1, "command": "ulcompress evaluate images", "created": "2026-11-24T12:00:00+00:00",
            "dataset": None, "versions": {"ulcompress": "0.1.0"}, "failures": [], "failed": [],
            "machine": {"cpu": "a processor", "cores": 2, "device": "cpu", "processes": 1, "threads": 2,
                        "batch": 1},
            "metrics": [
                {"name": name, "label": label, "better": better, "scope": scope, "protocol": f"how {name} is found",
                 "files": {"net.pth": "0" * 64}, "missing": None}
                for name, label, better, scope in METRICS
            ] + [{"name": "dists", "label": "dists", "better": None, "scope": None, "protocol": None, "files": {},
                  "missing": "vgg16.pth is wanted"}],
            "contestants": [
                {"name": name, "curve": curve, "kind": "anchor" if matched else "codec", "settings": {},
                 "fingerprint": None, "matched_to": matched}
                for name, curve, matched in CONTESTANTS
            ],
            "images": [
                {"name": name, "file": f"{name}.png", "width": 96, "height": 64, "caption": None,
                 "original": f"originals/{name}.png" if kept else None}
                for name in names
            ],
            "results": [
                {"contestant": contestant, "image": name, "bytes": 100 + index, "bpp": 0.1 + index / 1000,
                 "encode_seconds": 0.1, "decode_seconds": 0.2, "working_memory": None, "quality": None, "factor": 1.0,
                 "fits": True, "metrics": {"psnr": round(float(numbers.uniform(18, 26)), 3), "lpips-alex": None},
                 "file": None, "restored": f"images/{place}/{name}.png" if kept else None}
                for place, (contestant, _, _) in enumerate(CONTESTANTS)
                for index, name in enumerate(names)
            ],
            "summary": [
                {"contestant": contestant, "images": images, "over_budget": 0,
                 "bytes": 100.0, "bpp": 0.05 * (1 + place), "encode_seconds": 0.1, "decode_seconds": 0.2,
                 "working_memory": None,
                 "metrics": {"psnr": {"value": 20.5 + place, "low": 19.0, "high": 22.0}, "lpips-alex": None,
                             "fid": {"value": 90.0 - place, "low": None, "high": None}}}
                for place, (contestant, _, _) in enumerate(CONTESTANTS)
            ],
            "bjontegaard": [{"reference": "avif", "curve": "mini", "metric": "psnr", "method": "pchip",
                             "rate_percent": -12.5, "low": -20.0, "high": -3.0, "refused": None},
                            {"reference": "avif", "curve": "mini", "metric": "lpips-alex", "method": "pchip",
                             "rate_percent": None, "low": None, "high": None, "refused": "too few points"}],
            "comparisons": [
                {"name": "mini", "reference": "avif", "metric": "psnr", "mean": 20.5, "difference": -0.75, "low": -1.25,
                 "high": -0.25, "images": images, "seeds": 1, "wins": 1, "rate_percent": 0.5, "kind": "equal rate",
                 "refused": None},
                {"name": "mini steps=8", "reference": "avif", "metric": "psnr", "mean": 22.5, "difference": 1.5,
                 "low": 0.5, "high": 2.5, "images": images, "seeds": 1, "wins": 3, "rate_percent": 0.0,
                 "kind": "interpolated", "refused": None},
                {"name": "mini", "reference": "avif", "metric": "fid", "mean": 90.0, "difference": -4.0, "low": None,
                 "high": None, "images": 1, "seeds": 1, "wins": None, "rate_percent": 0.5, "kind": "equal rate",
                 "refused": None},
                {"name": "mini", "reference": "avif", "metric": "lpips-alex", "mean": None, "difference": None,
                 "low": None, "high": None, "images": 0, "seeds": 1, "wins": None, "rate_percent": None,
                 "kind": "other rate", "refused": "no image has a value of both"},
            ],
            "kinds": {"equal rate": "how it is at equal rates", "interpolated": "how it is between points"},
            "published": [{"system": "Peer", "dataset": "kodak", "metric": "psnr", "bpp": bpp, "value": value,
                           "source": "a paper", "protocol": "exact"} for bpp, value in ((0.06, 21.5), (0.1, 23.0))],
        }  # fmt: skip

    return content


@pytest.fixture
def page(results, tmp_path):
    """Return a function that writes results, their images, and the page; it returns the page's address."""

    def write(images=3, *, change=lambda content: content):
        content = change(results(images))
        for result in content["results"]:
            place = content["contestants"].index(
                next(c for c in content["contestants"] if c["name"] == result["contestant"])
            )
            picture(tmp_path / result["restored"], 60 * place)
        for image in content["images"]:
            picture(tmp_path / image["original"], 255)
        return write_page(content, tmp_path).as_uri()

    return write


def picture(path, level):
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 64), (level, level, level)).save(path)

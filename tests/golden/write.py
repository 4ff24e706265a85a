"""Write golden files: `python tests/golden/write.py` adds those that are missing and never changes one that is there.

A golden file is a `.ulc` file with the digest of its symbols and, for the codecs that lie here, every fifth pixel that
it restored. Whatever happens to the code, the symbols stay the same and the pixels stay the same to rounding. Files
whose names have no format are of the first one.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import ulcompress
from ulcompress.coding import bitstream

HERE = Path(__file__).parent
BUNDLED = ("mini", "mini-cgdm")
FORMAT = f"format-{bitstream.VERSION}"
CAPTION = "a small house beside a river, with a red boat"


def photograph(width: int = 208, height: int = 144) -> Image.Image:
    """Return a picture with areas, edges and texture, the same at each call."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    rng = np.random.default_rng(7)
    sky = np.stack([0.45 + 0.2 * y / height, 0.6 + 0.2 * y / height, 0.85 - 0.1 * y / height], -1)
    ground = 0.3 + 0.12 * rng.standard_normal((height, width, 1)) * np.array([0.7, 1.0, 0.5])
    picture = np.where((y < 0.55 * height + 6 * np.sin(x / 17))[..., None], sky, ground)
    house = (abs(x - 70) < 28) & (abs(y - 80) < 22)
    picture[house] = np.array([0.8, 0.7, 0.5]) + 0.1 * np.sign(np.sin(x[house] * 1.3))[:, None]
    picture[(x - 150) ** 2 + 3 * (y - 110) ** 2 < 500] = [0.75, 0.15, 0.1]
    return Image.fromarray((picture.clip(0, 1) * 255).round().astype(np.uint8))


def digest(value) -> str:
    """Return a digest of symbols and side information: of integers and their shapes, whatever record holds them."""
    state = hashlib.sha256()
    for number in _flat(value):
        state.update(number)
    return state.hexdigest()


def _flat(value):
    if value is None or isinstance(value, (bool, int)):
        yield f"{value};".encode()
    elif isinstance(value, torch.Tensor):
        yield f"{tuple(value.shape)}".encode() + value.cpu().numpy().astype("<i8").tobytes()
    elif isinstance(value, dict):
        for name in sorted(value):
            yield name.encode()
            yield from _flat(value[name])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item)
    else:  # a record, whose fields may get other names
        yield from _flat(list(vars(value).values()))


def sampled(image: torch.Tensor) -> np.ndarray:
    """Return every fifth pixel of a restored image, (3, h, w), uint8."""
    return image[:, 2::5, 2::5].clamp(0, 1).mul(255).round().byte().numpy()


def symbols_of(codec, data: bytes) -> str:
    """Return the digest of what a file holds."""
    code = codec.read(data)
    return digest([code.height, code.width, code.symbols, code.sides])


def variants(codec):
    """Yield name and options of the files of a codec."""
    captions = {"": None, "-caption": CAPTION} if codec.takes_captions else {"": None}
    for rate in range(1, codec.quantizer.rates + 1):
        for suffix, caption in captions.items():
            yield f"rate-{rate}{suffix}", {"caption": caption, "rate": rate}
    if "syntax" in codec.conditioners:
        yield "without-syntax", {"without": ("syntax",)}
    yield "cut", {"caption": captions.get("-caption"), "max_bytes": 40}


def main() -> None:
    """Add what is missing."""
    index = HERE / "files.json"
    files = json.loads(index.read_text()) if index.is_file() else {}
    local = sorted(path.parent for path in HERE.glob("*/config.yaml"))
    for name in [*BUNDLED, *local]:
        codec = ulcompress.load(name)
        label = name if isinstance(name, str) else name.name
        for variant, options in variants(codec):
            path = HERE / f"{label}.{FORMAT}.{variant}.ulc"
            if path.exists():
                continue
            data = codec.compress(photograph(), **options)
            path.write_bytes(data)
            files[path.name] = {"codec": label, "symbols": symbols_of(codec, data)}
            if not isinstance(name, str):
                np.save(path.with_suffix(".npy"), sampled(codec.decompress(data)))
    index.write_text(json.dumps(files, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

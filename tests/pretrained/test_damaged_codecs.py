"""Codec directories of strangers: whatever is in them, loading ends in a codec that works or in one line.

`DAMAGED_CODECS=2000 pytest tests/test_damaged_codecs.py` tries more of them.
"""

import copy
import math
import os
import random
import resource
import sys
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from ulcompress import load
from ulcompress.commands.inspection import describe
from ulcompress.pretrained import metadata, save

CASES = int(os.environ.get("DAMAGED_CODECS", 200))
SECONDS, MEGABYTES = 15, 500
"""That one codec, and all of them, may take."""
PATHS = [
    *("", "stranger.Part", "os.system", "subprocess.Popen", "builtins.eval", "torch.hub.load", "ulcompress.load"),
    *("ulcompress.pretrained.load", "ulcompress.__main__.main", "ulcompress.quantizers.vector.torch.hub.load"),
    *(
        "ulcompress.StableDiffusion",
        "ulcompress.foundation.stable_diffusion.StableDiffusion",
        "ulcompress.conditioning.BlipCaptioner",
    ),
    *("ulcompress.quantizers.VectorQuantizer", "ulcompress.encoders.HyperEncoder", "ulcompress.entropy.UniformEntropy"),
    *("ulcompress.autoencoders.PixelSpace", "ulcompress.decoders.BaseReconstruction", "ulcompress.learned.illm.MSILLM"),
    *("ulcompress.quantizers.StringQuantizer", "ulcompress.quantizers.Quantizer", "ulcompress.training.CodecModule"),
]
NUMBERS = [-1, 0, 1, 2, 3, 7, 1000, 10**6, 10**9, 10**12, 2**63, 2**70, -(10**12), 0.5, -1e300, math.nan, math.inf]
TEXTS = ["", "stranger.yaml", "/etc/passwd", "${oc.env:HOME}", "stranger.Part", "https://localhost:9/x", "x" * 10000]
OUTSIDE = {
    "pretrained": {"name": "stranger"},
    "quality": 1,
    "weights": "stranger.safetensors",
    "architecture": {"attn_implementation": "stranger/kernel", "in_channels": 3},
}


def nodes(value, path=()):
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from nodes(item, (*path, key))


def changed_configuration(config, rng):
    """Change one to three places of a configuration."""
    good, config = config, copy.deepcopy(config)
    for _ in range(rng.randint(1, 3)):
        *path, last = rng.choice(list(nodes(config))[1:])
        owner = config
        for key in path:
            owner = owner[key]
        named = isinstance(owner, dict)
        kind = rng.choice(["number", "text", "part", "path", "none", "list", "delete", "outside", "swap"])
        if kind == "path" and not (named and "class_path" in owner):
            kind = "number"
        if kind == "number":
            owner[last] = rng.choice(NUMBERS)
        elif kind == "text":
            owner[last] = rng.choice(TEXTS)
        elif kind == "part":
            owner[last] = {"class_path": rng.choice(PATHS), "init_args": {}}
        elif kind == "path":
            owner["class_path"] = rng.choice(PATHS)
        elif kind == "none":
            owner[last] = None
        elif kind == "list":
            owner[last] = [rng.choice(NUMBERS)] * rng.choice([0, 1, 2, 1000])
        elif kind == "delete":
            del owner[last]
        elif kind == "outside" and named:
            key = rng.choice(list(OUTSIDE))
            arguments = owner.get("init_args")
            (arguments if isinstance(arguments, dict) else owner)[key] = OUTSIDE[key]
        elif kind == "swap":
            owner[last] = copy.deepcopy(rng.choice([good["encoder"], good["conditioning"], [], {}, True]))
        if not list(nodes(config))[1:]:
            break
    return config


def changed_text(data, rng):
    """Damage the bytes of a file."""
    data = bytearray(data)
    kind = rng.choice(["cut", "flip", "insert", "bomb", "deep", "tag"])
    if kind == "cut":
        return bytes(data[: rng.randrange(len(data))])
    if kind == "bomb":
        lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
        return "\n".join(lines).encode()
    if kind == "deep":
        return b"encoder: " + b"[" * 50_000
    if kind == "tag":
        return b"encoder: !!python/object/apply:os.system ['true']\n" + bytes(data)
    for _ in range(rng.randint(1, 8)):
        position = rng.randrange(len(data))
        if kind == "flip":
            data[position] ^= 1 << rng.randrange(8)
        else:
            data[position:position] = rng.randbytes(rng.randint(1, 4))
    return bytes(data)


def changed_metadata(found, rng):
    """Let the weights tell something else of themselves."""
    if rng.choice([True, False]):
        return found | {"fingerprint": rng.choice(["", "zzzzzz", "0" * 1000, "123456", "é"])}
    return None


def changed_weights(state, rng):
    """Change the tensors of one to three names."""
    state = dict(state)
    for _ in range(rng.randint(1, 3)):
        name = rng.choice([*state, *(key for key in state if not state[key].is_floating_point())])
        value = state[name].clone()
        kind = rng.choice(["drop", "rename", "shape", "kind", "nan", "huge", "integers", "doubling"])
        if kind == "drop":
            del state[name]
        elif kind == "rename":
            state[rng.choice(["x", f"{name}.x", "decoder.x"])] = state.pop(name)
        elif kind == "shape":
            shapes = [value.flatten(), value[None], torch.cat([value.flatten()] * 2), value.new_zeros(0)]
            state[name] = rng.choice(shapes)
        elif kind == "kind":
            state[name] = value.to(rng.choice([torch.int8, torch.float64, torch.bool, torch.int64, torch.bfloat16]))
        elif kind == "doubling" and name.endswith("merges"):
            state[name] = torch.arange(255, 255 + len(value))[:, None].expand(-1, 2).contiguous()
        elif value.numel():
            place = rng.randrange(value.numel())
            wild = [math.nan, math.inf, 3e4, -3e4, 0.0] if value.is_floating_point() else [-(2**31), -1, 2**31 - 1]
            value.view(-1)[place] = rng.choice(wild) if value.dtype != torch.bool else False
            state[name] = value
    return state


def damage(directory, rng, good):
    """Write a damaged codec over the one in a directory; return what was damaged."""
    config, state, found = good
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    save_file(state, directory / "model.safetensors", metadata=found)
    kind = rng.choice(["configuration"] * 5 + ["text", "metadata", "header"] + ["weights"] * 3)
    if kind == "configuration":
        dumped = yaml.safe_dump(changed_configuration(config, rng), sort_keys=False)
        (directory / "config.yaml").write_text(dumped)
    elif kind == "text":
        data = (directory / "config.yaml").read_bytes()
        (directory / "config.yaml").write_bytes(changed_text(data, rng))
    elif kind == "metadata":
        save_file(state, directory / "model.safetensors", metadata=changed_metadata(found, rng))
    elif kind == "weights":
        save_file(changed_weights(state, rng), directory / "model.safetensors", metadata=found)
    else:
        data = bytearray((directory / "model.safetensors").read_bytes())
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(4000)] = rng.choice(b"0123456789[]{},:\x00\xff")
        (directory / "model.safetensors").write_bytes(data)
    return kind


def attempt(directory, image, file, *, everything=True):
    """Use a codec as the command line does; return how each step ended."""

    def whole():
        codec = load(directory)
        return codec.decompress(codec.compress(image, None))

    def told():
        return load(directory, encoder_only=True).compress(image, None)

    ends = []
    for step in (whole, told, lambda: describe(file, str(directory)))[: 3 if everything else 1]:
        try:
            result = step()
            assert not isinstance(result, torch.Tensor) or result.isfinite().all()
            ends.append("works")
        except ValueError as error:
            assert "\n" not in str(error) and 0 < len(str(error)) < 2000, f"not one line: {error!r}"
            ends.append("refused")
    return ends


@pytest.mark.filterwarnings("default")
def test_whatever_a_codec_directory_holds_it_is_a_codec_or_one_line(
    tiny_codec, tiny_guided_codec, tiny_staged_codec, tmp_path, monkeypatch
):
    (tmp_path / "stranger.py").write_text("raise SystemExit('a module of a stranger was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def refuse(*args, **kwargs):
        raise SystemExit("code of a stranger would have been run, or something fetched")

    for name in ("torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.load", "os.system"):
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    image, goods = torch.rand(3, 33, 40, generator=torch.Generator().manual_seed(0)), []
    for number, codec in enumerate((tiny_codec, tiny_guided_codec, tiny_staged_codec)):
        directory = tmp_path / str(number)
        save(codec, directory)
        (tmp_path / f"{number}.ulc").write_bytes(codec.compress(image))
        config = yaml.safe_load((directory / "config.yaml").read_text())
        goods.append((config, load_file(directory / "model.safetensors"), metadata(directory)))
        assert attempt(directory, image, tmp_path / f"{number}.ulc") == ["works"] * 3
    memory, ends, slowest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, [], (0.0, -1)
    for case in range(CASES):
        rng = random.Random(case)
        number = case % len(goods)
        kind = damage(tmp_path / str(number), rng, goods[number])
        start = time.perf_counter()
        try:
            everything = kind == "metadata" or case % 4 == 0
            ends += attempt(tmp_path / str(number), image, tmp_path / f"{number}.ulc", everything=everything)
        except BaseException as error:
            raise AssertionError(f"case {case}, {kind}: {type(error).__name__}: {error}") from error
        slowest = max(slowest, (time.perf_counter() - start, case))
        assert slowest[0] < SECONDS, f"case {case}, {kind} took {slowest[0]:.1f} s"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
        assert grown < MEGABYTES, f"case {case}, {kind} took {grown:.0f} MB"
    assert "stranger" not in sys.modules
    assert {"works", "refused"} <= set(ends)
    print(f"{ends.count('refused')} refused, {ends.count('works')} worked; slowest {slowest}; {grown:.0f} MB")

"""What each strategy of several processes trains, continues and exports, against `ddp`; for a machine with GPUs.

    python tests/benchmarks/strategies.py [--accelerator gpu] [--devices 2] [--precision bf16-mixed] [STRATEGY ...]

trains a tiny codec on random images: by `ddp` at once; by each other strategy a few steps, then the rest from the
checkpoint in a new start. The checkpoint is exported, and an image is coded by the exported codec. Prints for each the
seconds, and the largest difference of a weight to that of `ddp`, as a share of the largest change of a weight from the
first checkpoint on; ends with status 1 where a strategy fails, or differs by more than rounding. A start takes 10 s,
all of them two or three minutes. DeepSpeed's strategies are left out, in one line, where it is not installed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import torch
from torchvision.transforms.functional import to_pil_image

import ulcompress
from ulcompress.pretrained import export, read_checkpoint

TINY = Path(__file__).parents[1] / "training" / "tiny.yaml"
STEPS, BREAK = 6, 3
ROUNDING = {"32-true": 1e-3, "bf16-mixed": 1e-1}
"""Largest difference that is still rounding."""
SMOOTH = [
    # AdamW would make whole steps of gradients that should be zero.
    *("--model.optimizer.kind", "SGD", "--model.optimizer.options", "{momentum: 0.9}"),
    *("--model.acceleration.channels_last", "false", "--trainer.callbacks.moving_average", "null"),
    *("--model.preparation.batches", "2", "--trainer.gradient_clip_val", "0.5", "--trainer.val_check_interval", "2"),
]
STRATEGIES = ("fsdp2", "deepspeed_stage_1", "deepspeed_stage_2")


def write_images(folder: Path) -> None:
    """Write random images with captions."""
    folder.mkdir()
    random = torch.Generator().manual_seed(0)
    for number in range(16):
        to_pil_image(torch.rand(3, 36, 40, generator=random)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a red cup")


def train(strategy: str, steps: int, place: Path, options: argparse.Namespace) -> Path:
    """Train up to a step, from the checkpoint of the strategy if there is one; return the checkpoint."""
    checkpoints = place / strategy
    words = ["fit", "-c", str(TINY), *SMOOTH, "--name", strategy, "--ckpt_path", "last"]
    for key, value in {
        "data.train": place / "images",
        "data.validation": place / "images",
        "trainer.accelerator": options.accelerator,
        "trainer.devices": options.devices,
        "trainer.precision": options.precision,
        "trainer.strategy": strategy,
        "trainer.max_steps": steps,
        "trainer.callbacks.checkpoint.dirpath": checkpoints,
    }.items():
        words += [f"--{key}", str(value)]
    command = [sys.executable, "-m", "ulcompress", *words]
    path = os.pathsep.join([str(Path(ulcompress.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, cwd=place, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{strategy} ended with {done.returncode}: {done.stderr[-2000:]}")
    return checkpoints / "last.ckpt"


def code_image(checkpoint: Path, place: Path) -> int:
    """Export a checkpoint and code an image by it; return the bytes."""
    export(checkpoint, place / f"codec-{checkpoint.parent.name}")
    codec = ulcompress.load(str(place / f"codec-{checkpoint.parent.name}"))
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    data = codec.compress(image, "a red cup")
    restored = codec.decompress(data)
    assert restored.shape == image.shape and bool(restored.isfinite().all())
    return len(data)


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of two states of the same keys."""
    assert first.keys() == second.keys()
    return max(float((first[name] - value).abs().max()) for name, value in second.items() if value.is_floating_point())


def main() -> int:
    """Compare the strategies; return the status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strategies", nargs="*", default=STRATEGIES, metavar="STRATEGY")
    parser.add_argument("--accelerator", default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--devices", type=int, default=torch.cuda.device_count() or 2)
    parser.add_argument("--precision", choices=ROUNDING, default="32-true")
    options, failed = parser.parse_args(), False
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_images(place / "images")
        print(f"{options.devices} x {options.accelerator}, {options.precision}, torch {torch.__version__}")
        expected = read_checkpoint(train("ddp", STEPS, place, options))["state_dict"]
        begin = read_checkpoint(next((place / "ddp").glob("*step=1.ckpt")))["state_dict"]
        change = largest_difference(begin, expected)
        for strategy in options.strategies:
            if strategy.startswith("deepspeed") and find_spec("deepspeed") is None:
                print(f"{strategy}: not tried, since DeepSpeed is not installed")
                continue
            start = time.perf_counter()
            try:
                train(strategy, BREAK, place, options)
                checkpoint = train(strategy, STEPS, place, options)
                share = largest_difference(read_checkpoint(checkpoint)["state_dict"], expected) / change
                size = code_image(checkpoint, place)
            except (RuntimeError, ValueError, AssertionError) as error:
                print(f"{strategy}: failed: {error}")
                failed = True
                continue
            is_rounding = share <= ROUNDING[options.precision]
            failed |= not is_rounding
            verdict = "rounding" if is_rounding else "MORE THAN ROUNDING"
            seconds = time.perf_counter() - start
            print(f"{strategy}: difference {share:.1e} ({verdict}), an image in {size} bytes, {seconds:.0f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

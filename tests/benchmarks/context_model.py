"""Symbols that a `ContextModel` writes and reads in a CPU second, through its exact network, on one thread.

    python tests/benchmarks/context_model.py

The network and the indices are random, so nearly as many bits are coded as without a model. Prints the best of three
turns for codebooks and maps of some sizes, and the beginning of a hash of the bytes, which no change may alter.
"""

import hashlib

import torch
from timing import timed
from torch.nn import functional as F

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from ulcompress.entropy import ContextModel

CASES = ((64, 32, 48), (256, 16, 24), (256, 32, 48), (256, 128, 128), (1024, 32, 48), (4096, 64, 64))
"""Entries of the codebook, rows and columns of the map."""
TURNS = 3


@torch.inference_mode()
def measure(size: int, rows: int, columns: int) -> str:
    """Return a line on one codebook and map."""
    torch.manual_seed(0)
    model = ContextModel().eval()
    model.build([(size, 0, 32)])
    torch.nn.init.normal_(model.heads[0].weight, std=0.3)  # pyright: ignore[reportArgumentType]
    entries, earlier = F.normalize(torch.randn(size, 32), dim=-1).half().float(), torch.zeros(1, 0, rows, columns)
    indices = torch.randint(size, (1, rows, columns))

    def write() -> bytes:
        coder = ArithmeticEncoder()
        model.write(0, earlier, entries, indices, coder)
        return coder.finish()

    writing, data = timed(write, TURNS)
    reading, read = timed(lambda: model.read(0, earlier, entries, ArithmeticDecoder(data)), TURNS)
    assert torch.equal(read, indices)
    count = rows * columns
    speeds = f"written {count / writing:7.0f}, read {count / reading:7.0f} a second"
    return f"{size:4} entries, {rows:3} x {columns:3}: {speeds}, {hashlib.sha256(data).hexdigest()[:8]}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in CASES:
        print(measure(*case), flush=True)

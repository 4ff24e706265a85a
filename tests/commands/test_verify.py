import pytest
import torch

from ulcompress.commands import verification
from ulcompress.commands.main import run
from ulcompress.commands.verification import ReadCondition, difference, streams_of
from ulcompress.quantizers import ResidualQuantizer
from ulcompress.records import Code, HyperSymbols


@pytest.fixture
def file(tiny_staged_codec, tmp_path):
    image = torch.rand(3, 90, 120, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "photo.ulc"
    path.write_bytes(tiny_staged_codec.compress(image))
    return path


@pytest.fixture
def here_alone(monkeypatch):
    """Instruction sets take a process each."""
    monkeypatch.setattr(verification, "INSTRUCTION_SETS", {})


def test_symbols_are_the_same_under_every_condition(file, directory, capsys, monkeypatch):
    sets = verification.INSTRUCTION_SETS
    monkeypatch.setattr(verification, "INSTRUCTION_SETS", {"default": sets["default"]})
    before = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.mkldnn.enabled
    assert run(["verify", str(file), "--codec", directory]) == 0
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.mkldnn.enabled) == before
    assert torch.get_default_dtype() == torch.float32
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == f"{file}: size 2, spatial 62"
    assert len(lines) >= 8 and all(line.endswith("the same") or "left out: no GPU" in line for line in lines)
    if torch.backends.cpu.get_cpu_capability() != "DEFAULT":
        assert "  instruction set default  the same" in lines


def test_the_first_difference_ends_it_in_one_line(file, directory, capsys, monkeypatch, here_alone):
    def read(self, coder, grid):
        symbols = original(self, coder, grid)
        symbols.indices[0].view(-1)[3] += torch.get_default_dtype() == torch.float64
        return symbols

    original = ResidualQuantizer.read
    wanted = streams_of(verification.load(directory).read(file.read_bytes()))["spatial"][3]
    monkeypatch.setattr(ResidualQuantizer, "read", read)
    assert run(["verify", str(file), "--codec", directory]) == 1
    shown = capsys.readouterr()
    assert "2 threads" in shown.out and "float64" not in shown.out
    difference = f"integer 3 of the 62 of 'spatial' is {wanted + 1}, not {wanted}"
    assert shown.err == f"ulcompress: {file}: with float64 by default {difference}\n"


def test_a_file_that_cannot_be_read_is_refused(file, directory, capsys):
    file.write_bytes(file.read_bytes()[:-1])
    assert run(["verify", str(file), "--codec", directory]) == 1
    assert (
        capsys.readouterr().err == f"ulcompress: {file}: the file is truncated or damaged: its check does not match\n"
    )


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"size": [1, 2], "text": [7]}, None),
        ({"size": [1, 3], "text": [7]}, "integer 1 of the 2 of 'size' is 3, not 2"),
        ({"size": [1, 2], "text": [7, 8]}, "'text' has 2 integers, not 1"),
        ({"size": [1, 2]}, "'text' has 0 integers, not 1"),
    ],
)
def test_a_difference_is_named(found, text):
    expected = {"size": [1, 2], "text": [7]}
    assert difference(ReadCondition("any", lambda: [expected, found]), expected) == text


def test_whatever_goes_wrong_is_a_difference():
    condition = ReadCondition("any", lambda: [{}["missing"]])
    assert difference(condition, {}) == "it cannot be read: 'missing'"


def test_all_that_a_file_holds_is_compared():
    symbols = HyperSymbols(latent=torch.tensor([[-1, 2]]), hyper=torch.tensor([[3]]))
    code = Code(
        height=4, width=5, symbols=symbols, sides={"text": [[6, 7]], "base": None, "syntax": torch.tensor([8.0])}
    )
    assert streams_of(code) == {"size": [4, 5], "text": [6, 7], "syntax": [8], "spatial": [-1, 2, 3]}

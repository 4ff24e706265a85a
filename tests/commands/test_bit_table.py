import pytest
import torch

from ulcompress.commands.main import run
from ulcompress.pretrained import save


def numbers_of(line):
    name, *cells = (cell.strip() for cell in line.strip("| \n").split("|"))
    return name, [float(cell) if cell else None for cell in cells]


@pytest.fixture
def files(tiny_codec, tmp_path):
    images = torch.rand(2, 3, 130, 200, generator=torch.Generator().manual_seed(0))
    captions = ["a red cup on a chair", None]
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        (tmp_path / f"{number}.ulc").write_bytes(tiny_codec.compress(image, caption))
    save(tiny_codec, tmp_path / "tiny")
    return sorted(tmp_path.glob("*.ulc")), str(tmp_path / "tiny")


def test_the_bits_of_each_file_and_their_means(files, tiny_codec, capsys):
    paths, codec = files
    assert run(["info", "--table", *map(str, paths), "--codec", codec]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads, rows = lines[2], dict(map(numbers_of, lines[4:]))
    assert heads == "| file | container | text | spatial | ideal | real |"
    for path in paths:
        container, text, spatial, ideal, real = rows[path.name]
        data = path.read_bytes()
        bits = tiny_codec.stream_bits(data)
        assert [text, spatial] == pytest.approx([bits["text"], bits["spatial"]], abs=0.06)
        assert real == 8 * len(data) and container == 8 * 9 and ideal == pytest.approx(text + spatial, abs=0.11)
        assert -0.1 <= real - container - ideal < 16
    assert rows["0.ulc"][1] > rows["1.ulc"][1]
    means = [sum(both) / 2 for both in zip(*(rows[path.name] for path in paths), strict=True)]
    assert rows["mean"] == pytest.approx(means, abs=0.06)


def test_a_damaged_file_is_named(files, capsys):
    paths, codec = files
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    assert run(["info", "--table", *map(str, paths), "--codec", codec]) == 1
    assert capsys.readouterr().err.startswith(f"ulcompress: {paths[1]}: the file is truncated")

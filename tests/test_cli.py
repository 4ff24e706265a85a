import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ulcompress.commands.main import run
from ulcompress.images import read_image
from ulcompress.pretrained import load, save


@pytest.fixture
def codec_directory(tiny_codec, tmp_path):
    directory = tmp_path / "tiny"
    save(tiny_codec, directory)
    return str(directory)


@pytest.fixture
def photo(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(values).save(path)
    return path


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "ulcompress", *map(str, arguments)], capture_output=True, text=True)


def test_round_trip_through_files(codec_directory, photo, capsys):
    assert run(["compress", str(photo), "--codec", codec_directory, "--caption", "a red cup"]) == 0
    file = photo.with_suffix(".ulc")
    size = file.stat().st_size
    assert f"{size} bytes, {8 * size / (33 * 50):.4f} bpp" in capsys.readouterr().out
    assert run(["decompress", str(file), "--codec", codec_directory]) == 0
    assert read_image(photo.with_suffix(".png")).shape == (3, 33, 50)
    assert run(["info", str(file), "--codec", codec_directory]) == 0
    shown = capsys.readouterr().out
    assert "50 x 33" in shown and "text" in shown and "spatial" in shown and "tiny" in shown


def test_another_process_restores_the_same_pixels(codec_directory, photo, tmp_path):
    run(["compress", str(photo), "--codec", codec_directory])
    here = load(codec_directory).decompress(photo.with_suffix(".ulc").read_bytes())
    result = command("decompress", photo.with_suffix(".ulc"), "-o", tmp_path / "there.png", "--codec", codec_directory)
    assert result.returncode == 0, result.stderr
    there = read_image(tmp_path / "there.png")
    assert torch.equal((here * 255).round(), (there * 255).round())


def test_folders(codec_directory, tmp_path, photo):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("one.png", "two.png"):
        Image.open(photo).save(folder / name)
    assert run(["compress", str(folder), "-o", str(tmp_path / "out"), "--codec", codec_directory]) == 0
    assert run(["decompress", str(tmp_path / "out"), "--codec", codec_directory]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.png", "one.ulc", "two.png", "two.ulc"]


def test_nothing_is_overwritten_without_force(codec_directory, photo, capsys):
    photo.with_suffix(".ulc").write_bytes(b"mine")
    assert run(["compress", str(photo), "--codec", codec_directory]) == 1
    assert "exists; use --force" in capsys.readouterr().err
    assert photo.with_suffix(".ulc").read_bytes() == b"mine"
    assert run(["compress", str(photo), "--codec", codec_directory, "--force"]) == 0
    assert photo.with_suffix(".ulc").read_bytes() != b"mine"


def test_a_bad_file_does_not_stop_the_others(codec_directory, photo, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    assert run(["compress", str(bad), str(photo), "--codec", codec_directory]) == 1
    assert str(bad) in capsys.readouterr().err
    assert photo.with_suffix(".ulc").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compress", "missing.png"], "missing.png"),
        (["decompress", "missing.ulc"], "missing.ulc: no such file or folder"),
        (["info", "missing.ulc"], "no file missing.ulc"),
        (["export", "missing.ckpt", "somewhere"], "no checkpoint 'missing.ckpt'"),
        (["compress", __file__, "--codec", "nothing"], ""),
        (["compress", __file__, "--captions", "--captioner"], "got --captions and --captioner; give one of them"),
        (["compress", __file__, "--caption", "", "--captions"], "got --caption and --captions; give one of them"),
        (["choose-seed", "nothing", "missing.png", "--out", "somewhere"], "missing.png"),
        (["fit", "-c", "missing.yaml"], "missing.yaml"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    assert run(arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error


def test_an_unknown_codec_names_the_bundled_ones(photo, capsys):
    assert run(["compress", str(photo), "--codec", "nothing"]) == 1
    assert "no codec 'nothing'" in capsys.readouterr().err


def test_a_damaged_file_is_one_line(codec_directory, photo, capsys):
    run(["compress", str(photo), "--codec", codec_directory])
    file = photo.with_suffix(".ulc")
    file.write_bytes(file.read_bytes()[:-1])
    capsys.readouterr()
    assert run(["decompress", str(file), "--codec", codec_directory]) == 1
    assert "truncated or damaged" in capsys.readouterr().err
    assert run(["info", str(file)]) == 1
    assert not photo.with_suffix(".png").exists()


def test_two_inputs_for_one_output_are_refused(codec_directory, photo, tmp_path, capsys):
    twin = photo.with_suffix(".png")
    Image.open(photo).save(twin)
    assert run(["compress", str(photo), str(twin), "--codec", codec_directory]) == 1
    assert "would both be written" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["info", "--help"]])
def test_quick_answers_do_not_import_torch(arguments):
    code = (
        "import sys\nfrom ulcompress.commands.main import run\n"
        f"try: run({arguments!r})\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'lightning', 'diffusers', 'transformers') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


def evaluate(photo, codec, out, *options):
    assert run(["evaluate", str(photo), "--codec", f"this={codec}", "--out", str(out), "--keep", *options]) == 0
    file, restored = next(out.glob("files/this*/*.ulc")), next(out.glob("images/this*/*.png"))
    return file.read_bytes(), read_image(restored)


def test_evaluate_prints_the_table_and_writes_the_page(codec_directory, photo, tmp_path, capsys):
    data, _ = evaluate(photo, codec_directory, tmp_path / "results", "--anchor", "jpeg", "--setting", "steps=1")
    shown = capsys.readouterr().out
    assert f"| {len(data)} |" in shown and "| jpeg at this tiny steps=1 |" in shown
    for name in ("results.json", "summary.csv", "summary.md", "index.html"):
        assert (tmp_path / "results" / name).is_file() and name in shown


def test_evaluate_takes_settings_of_one_codec(codec_directory, photo, tmp_path, capsys):
    other = shutil.copytree(codec_directory, tmp_path / "other")
    options = ["--codec", str(other), "--setting", "this:steps=2", "--setting", "this:steps=3", "--steps", "1"]
    evaluate(photo, codec_directory, tmp_path / "results", *options)
    rows = json.loads((tmp_path / "results" / "results.json").read_text())["summary"]
    first = Path(codec_directory).name
    assert [row["contestant"] for row in rows] == [
        f"this {first} steps=2", f"this {first} steps=3", "other steps=1"
    ]  # fmt: skip
    assert run(["evaluate", str(photo), "--codec", str(other), "--setting", "mini:rate=1"]) == 1
    assert "got a setting of the codec 'mini'; the codecs are" in capsys.readouterr().err.splitlines()[-1]


def test_evaluate_without_a_folder_leaves_nothing(codec_directory, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run(["evaluate", str(photo), "--codec", codec_directory]) == 0
    assert "| tiny |" in capsys.readouterr().out and sorted(tmp_path.rglob("*")) == before
    assert run(["evaluate", str(photo), "--codec", codec_directory, "--keep"]) == 1
    assert "--keep needs a folder" in capsys.readouterr().err


def test_evaluate_tells_what_was_left_out(codec_directory, photo, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert run(["evaluate", str(photo), str(tmp_path / "broken.png"), "--codec", codec_directory]) == 1
    shown = capsys.readouterr()
    assert "1 image, 1 left out" in shown.out or "1 image;" in shown.out
    assert "left out broken through tiny" in shown.err


def test_evaluate_takes_the_captions_beside_the_images(codec_directory, photo, tmp_path):
    def file(*options):
        return evaluate(photo, codec_directory, tmp_path / f"results{len(options)}", *options)[0]

    photo.with_suffix(".txt").write_text("\n a red cup on a table \na cat\n")
    assert file("--captions") == load(codec_directory).compress(read_image(photo), "a red cup on a table")
    assert file() == load(codec_directory).compress(read_image(photo))


@pytest.mark.parametrize("text", [None, " \n"])
def test_evaluate_without_a_caption_that_was_asked_for_is_one_line(codec_directory, photo, capsys, text):
    if text is not None:
        photo.with_suffix(".txt").write_text(text)
    assert run(["evaluate", str(photo), "--codec", codec_directory, "--captions"]) == 1
    error = capsys.readouterr().err
    assert "no caption for" in error and "photo.txt" in error and error.count("\n") == 1


def test_choose_seed_saves_the_codec_with_its_noise(codec_directory, photo, tmp_path, capsys):
    out = str(tmp_path / "seeded")
    assert run(["choose-seed", codec_directory, str(photo), "--candidates", "3", "--out", out]) == 0
    codec = load(out)
    seed = codec.decoder.boundary.seed
    assert f"seed {seed}, chosen of 3 by the squared error of 1 images" in capsys.readouterr().out
    card = (tmp_path / "seeded" / "README.md").read_text()
    assert card.startswith((tmp_path / "tiny" / "README.md").read_text().rstrip()) and f"seed {seed}" in card
    image, plain = read_image(photo), load(codec_directory)
    data = plain.compress(image)
    errors = [(plain.decompress(data, seed=each) - image).square().mean() for each in range(3)]
    assert seed == min(range(3), key=errors.__getitem__)
    assert torch.equal(codec.decompress(data), plain.decompress(data, seed=seed))
    assert run(["choose-seed", codec_directory, str(photo), "--out", out]) == 1
    assert "holds a codec; use --force" in capsys.readouterr().err


def test_learn_captions_saves_the_codec_with_what_was_learnt(codec_directory, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ulcompress.entropy.text.learning.STEPS", 50)
    (tmp_path / "text").write_text("a red cup on a table\n\na cat on a red chair\na dog on a table\n" * 20)
    out, caption = str(tmp_path / "learnt"), "A  red cat , on a chair in the long afternoon"
    command = ["learn-captions", codec_directory, str(tmp_path / "text"), "--out", out]
    (tmp_path / "words").write_text("the long afternoon of a summer day\n" * 3)
    assert run([*command, "--background", str(tmp_path / "words"), "--measure", str(tmp_path / "text")]) == 0
    output = capsys.readouterr().out
    assert (
        "learnt from 60 captions of text, with words as the background" in output
        and "none 18.67 (70.0% of zlib)" in output
    )
    before, after = (float(output.rpartition(f"{name} ")[2].split()[0]) for name in ("before", "learnt"))
    assert after < 0.5 * before
    codec, plain = load(out), load(codec_directory)
    read = codec.read(codec.compress(read_image(photo), caption)).sides["text"]
    assert codec.conditioners["text"].coder.text(read[0]) == caption
    assert torch.equal(
        codec.conditioners["text"].encoder.embedding.weight, plain.conditioners["text"].encoder.embedding.weight
    )
    assert run(command) == 1
    assert "holds a codec; use --force" in capsys.readouterr().err


def test_compress_says_how_a_caption_is_cut(codec_directory, photo, capsys):
    assert run(["compress", str(photo), "--codec", codec_directory, "--caption", "a red cup on a table"]) == 0
    assert "the caption is longer than 8 tokens and is cut to 'a red cup on a ta'" in capsys.readouterr().err


@pytest.fixture
def guided_directory(tiny_guided_codec, tmp_path):
    save(tiny_guided_codec, tmp_path / "guided")
    return str(tmp_path / "guided")


@pytest.fixture
def view(tmp_path):
    """A photograph with large shapes, on which a search has something to find."""
    rows, columns = np.mgrid[:70, :90] / 90
    values = np.stack([np.sin(5 * rows), np.cos(3 * columns), rows * columns], -1)
    Image.fromarray((127 + 127 * values).astype(np.uint8)).save(tmp_path / "view.png")
    return tmp_path / "view.png"


def test_a_search_tells_what_it_gained_and_its_file_is_as_any(guided_directory, view, capsys):
    words = ["compress", str(view), "--codec", guided_directory]
    assert run(words) == 0
    search = ["--online", "30", "--online-variables", "syntax", "features"]
    assert run([*words, "-o", str(view.parent / "searched.ulc"), *search]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    start, end = map(float, re.search(r"measure ([\d.]+) -> ([\d.]+) in 30 steps", told).groups())
    assert end < start
    codec, image = load(guided_directory), read_image(view)
    plain, searched = (codec.decompress((view.parent / f"{name}.ulc").read_bytes()) for name in ("view", "searched"))
    assert (searched - image).square().mean() < (plain - image).square().mean()


def test_a_search_of_features_with_a_perceptual_distance(guided_directory, photo, squeezenet, capsys):
    words = ["compress", str(photo), "--codec", guided_directory, "--online", "1"]
    assert run([*words, "--online-variables", "syntax", "features", "--online-perceptual", squeezenet]) == 0
    with_distance = re.search(r"measure ([\d.]+)", capsys.readouterr().out)[1]
    assert run([*words, "--force"]) == 0
    assert float(with_distance) > float(re.search(r"measure ([\d.]+)", capsys.readouterr().out)[1])


def test_an_interrupted_search_writes_the_best_so_far(guided_directory, photo, monkeypatch, capsys):
    twin = photo.with_name("twin.jpg")
    Image.open(photo).save(twin)
    steps = []

    def interrupt(self, *arguments):
        steps.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr("ulcompress.optimization.online._Search._descend", interrupt)
    assert run(["compress", str(photo), str(twin), "--codec", guided_directory, "--online", "9"]) == 0
    assert len(steps) == 2 and capsys.readouterr().out.count("in 0 steps") == 2
    for path in (photo, twin):
        assert path.with_suffix(".ulc").read_bytes() == load(guided_directory).compress(read_image(path))


@pytest.mark.parametrize("verb", ["compress", "evaluate"])
def test_what_cannot_be_searched_or_left_out_is_one_line(codec_directory, photo, verb, capsys):
    for words, message in {
        (
            "--online",
            "3",
            "--online-variables",
            "syntax",
        ): "the code has no variable 'syntax' to search; it has features",
        ("--online-variables", "syntax"): "go with --online STEPS; give that as well",
        ("--without", "syntax"): "this codec sends no 'syntax'; it sends text",
        ("--online", "3", "--online-perceptual", "missing"): "missing",
    }.items():
        assert run([verb, str(photo), "--codec", codec_directory, *words]) == 1
        error = " ".join(capsys.readouterr().err.split())
        assert message in error and "Traceback" not in error


def test_streams_are_left_out(guided_directory, photo):
    assert run(["compress", str(photo), "--codec", guided_directory, "--without", "syntax"]) == 0
    codec = load(guided_directory)
    data = photo.with_suffix(".ulc").read_bytes()
    assert data == codec.compress(read_image(photo), without=["syntax"]) != codec.compress(read_image(photo))


def test_a_codec_with_several_rates(tiny_staged_codec, view, tmp_path, capsys):
    directory = str(tmp_path / "staged")
    save(tiny_staged_codec, directory)
    lowest = tiny_staged_codec.compress(read_image(view), rate=1)
    assert run(["compress", str(view), "--codec", directory, "--rate", "1"]) == 0
    assert view.with_suffix(".ulc").read_bytes() == lowest
    assert evaluate(view, directory, tmp_path / "one", "--setting", "rate=1")[0] == lowest
    assert evaluate(view, directory, tmp_path / "same", "--rate", "1")[0] == lowest
    for words in (["compress", "--force"], ["evaluate"]):  # the latter before anything is measured
        assert run([*words, str(view), "--codec", directory, "--rate", "3"]) == 1
        assert "got the rate 3, but this codec has the rates 1 to 2" in " ".join(capsys.readouterr().err.split())


def test_names_that_are_given_one_by_one_are_all_taken(codec_directory, photo, tmp_path):
    words = ["--metrics", "psnr", "--metrics", "ms-ssim", "--out", str(tmp_path / "results")]
    assert run(["evaluate", str(photo), "--codec", codec_directory, *words]) == 0
    measured = json.loads((tmp_path / "results" / "results.json").read_text())["metrics"]
    assert [metric["name"] for metric in measured] == ["psnr", "ms-ssim"]


def test_evaluate_searches_leaves_out_and_takes_no_steps(guided_directory, view, tmp_path):
    def restored(*options):
        return evaluate(view, guided_directory, tmp_path / f"results {' '.join(options)}", *options)

    codec, image = load(guided_directory), read_image(view)
    data, base = restored("--steps", "0")
    assert data == codec.compress(image)
    assert (base - codec.decompress(data, steps=0)).abs().max() <= 0.5 / 255 + 1e-6
    assert restored("--without", "syntax")[0] == codec.compress(image, without=["syntax"])
    searched, better = restored("--setting", "online=20", "--online-variables", "features")
    assert searched != data
    assert (better - image).square().mean() < (codec.decompress(data) - image).square().mean()


def test_a_decoder_without_base_refuses_no_steps(codec_directory, photo, capsys):
    assert run(["evaluate", str(photo), "--codec", codec_directory, "--steps", "0"]) == 1
    assert "steps must be 1 to 1000, got 0" in capsys.readouterr().err


def test_unusable_device_is_one_line(codec_directory, photo, capsys):
    assert run(["compress", str(photo), "--codec", codec_directory, "--device", "nowhere"]) == 1
    assert "cannot use the device 'nowhere'" in capsys.readouterr().err


def test_traceback_on_request(photo):
    with pytest.raises(ValueError, match="no codec 'nothing'"):
        run(["compress", str(photo), "--codec", "nothing", "--traceback"])


@pytest.mark.parametrize(
    "words",
    [
        ["decompress", "--guidance", "nan"],
        ["decompress", "--seed", "-1"],
        ["compress", "--online", "0"],
        ["evaluate", "--batch", "0"],
    ],
)
def test_options_out_of_range(words, capsys):
    with pytest.raises(SystemExit):
        run([*words, "any.ulc"])
    assert "must be" in capsys.readouterr().err

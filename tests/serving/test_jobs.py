import gc
import weakref

import pytest
import torch

from ulcompress.serving.codecs import ServedCodecs
from ulcompress.serving.jobs import JobStopped, ServedJob

IMAGE = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))


def test_each_step_is_reported_once(tiny):
    """With guidance a step calls the network twice; what is restored is the same to the bit."""
    data, lines = tiny.compress(IMAGE, "a red cup"), []
    job = ServedJob(60, lines.append)
    with job.watching(tiny, "restoring", steps=3):
        restored = tiny.decompress(data, steps=3, guidance=2.0)
    assert [line["step"] for line in lines] == [None, 1, 2, 3]
    assert all(line["doing"] == "restoring" and line["steps"] == 3 for line in lines[1:])
    assert torch.equal(restored, tiny.decompress(data, steps=3, guidance=2.0))
    assert len(lines) == 4  # nothing watches any longer


def test_a_stopped_job_ends_within_its_step(tiny):
    data, lines = tiny.compress(IMAGE), []

    def report(progress):
        lines.append(progress)
        if progress["step"] == 2:
            job.stop()

    job = ServedJob(60, report)
    with pytest.raises(JobStopped), job.watching(tiny, "restoring", steps=9):
        tiny.decompress(data, steps=9)
    assert lines[-1]["step"] == 2


def test_a_job_ends_when_its_time_is_over(tiny):
    job = ServedJob(1e-9, lambda progress: None)
    with (
        pytest.raises(ValueError, match=r"took more than 1e-09 s; take a smaller image.*--max-seconds"),
        job.watching(tiny, "compressing"),
    ):
        tiny.compress(IMAGE)


def test_the_time_of_waiting_is_not_counted():
    job = ServedJob(1e-9, lambda progress: None)
    job.check()
    job.begin("loading")  # from here on
    with pytest.raises(ValueError, match="took more than"):
        job.begin("compressing")


def test_a_codec_that_cannot_be_loaded_is_left_out_and_named(directories, tmp_path, one_thread):
    (tmp_path / "config.yaml").write_text("format: 3\n")
    said = []
    broken = {"broken": tmp_path, "tiny": directories["tiny"]}
    assert list(ServedCodecs(broken, left_out=said.append).facts) == ["tiny"]
    assert len(said) == 1 and said[0].startswith("broken is left out: ") and "\n" not in said[0]
    with pytest.raises(ValueError, match="config"):
        ServedCodecs(broken)


def test_one_codec_is_held_at_a_time(codecs):
    held = weakref.ref(codecs.load("tiny"))
    assert codecs.load("tiny") is held()
    load, alive = codecs._load, []
    codecs._load = lambda directory: alive.append(held()) or load(directory)
    codecs.load("staged")
    gc.collect()
    assert alive == [None] and held() is None

import json

import pytest

from callbacks import WeightsAndBiases
from callbacks.transaction_log import history, records
from ulcompress.pretrained import save

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture
def begin(tmp_path):
    """Return a function that begins a logger of the run `cups`, with a state of an earlier one."""
    loggers = []

    def begin(state=None, name="cups"):
        loggers.append(logger := WeightsAndBiases(save_dir=str(tmp_path)))
        logger.describe_run({"name": name, "commit": "0ff1ce"}, {"data": {"crop": 32}})
        if state is not None:
            logger.load_state_dict(state)
        return logger

    yield begin
    for logger in loggers:
        logger.close(succeeded=True)


def files(folder):
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)


def test_a_continued_run_has_one_id_and_one_history(begin, tmp_path):
    logger = begin()
    for step in range(6):
        logger.log_metrics({"train/loss": 1.0 / (step + 1)}, step)
        if step == 3:
            logger.log_metrics({"val/loss": 0.5}, step)
            state = logger.state_dict()
    logger.close(succeeded=False)
    logger = begin(state)
    for step in range(2, 9):  # from the checkpoint of step 2
        logger.log_metrics({"train/loss": 1.0 / (step + 1)}, step)
        if step % 4 == 3:
            logger.log_metrics({"val/loss": 0.5}, step)
        if step == 5:
            logger.log_metrics({"val/psnr": 20.0}, step)  # of a validation before which the process was killed
    logger.close(succeeded=True)

    paths = files(tmp_path)
    assert [path.stem for path in paths] == [f"run-{state['id']}"] * 2
    rows = [row for path in paths for row in history(path)]
    for name, steps in {"train/loss": [*range(9)], "val/loss": [3, 7], "val/psnr": [5]}.items():
        assert [row["trainer/global_step"] for row in rows if name in row] == steps
    run = next(record.run for record in records(paths[0]) if record.HasField("run"))
    values = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert (run.display_name, run.project, run.resume) == ("cups", "ulcompress", True)
    assert values["data"] == {"crop": 32} and values["run"] == {"name": "cups", "commit": "0ff1ce"}


def test_what_a_killed_process_has_left_is_read_to_its_end(begin, tmp_path):
    logger = begin()
    for step in range(5):
        logger.log_metrics({"train/loss": float(step)}, step)
    logger.close(succeeded=True)
    (path,) = files(tmp_path)
    whole, data = list(history(path)), path.read_bytes()
    assert len(whole) == 5
    for size in (0, 5, 7, 100, len(data) // 2, len(data) - 3):
        path.write_bytes(data[:size])
        rows = list(history(path))
        assert rows == whole[: len(rows)]
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="no file of W&B's"):
        list(history(path))


def test_a_run_of_another_name_gets_an_id_of_its_own(begin):
    state = {"id": "abc", "name": "cups"}
    assert begin(state).version == "abc"
    assert begin(state, name="cars").version is None


def test_nobody_is_asked_for_a_login(monkeypatch):
    assert WeightsAndBiases()._wandb_init["mode"] == "offline"
    assert WeightsAndBiases(mode="online")._wandb_init["mode"] == "online"
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    assert WeightsAndBiases()._wandb_init["mode"] == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert WeightsAndBiases()._wandb_init["mode"] == "disabled"


def test_a_codec_is_an_artifact_with_its_card_and_what_was_measured(begin, tiny_codec, tmp_path):
    save(tiny_codec, tmp_path / "codec", card="# cups\n")
    logger = begin(name="mini/cups")
    logger.log_codec(tmp_path / "codec", {"bpp/file": 0.1})
    logger.close(succeeded=True)
    (path,) = files(tmp_path)
    (artifact,) = (record.artifact for record in records(path) if record.HasField("artifact"))
    assert (artifact.name, artifact.type, artifact.description) == ("mini-cups", "codec", "# cups\n")
    assert {entry.path for entry in artifact.manifest.contents} == {"README.md", "config.yaml", "model.safetensors"}
    about = json.loads(artifact.metadata)
    assert about == {"measured": {"bpp/file": 0.1}, "fingerprint": tiny_codec.fingerprint.hex()}

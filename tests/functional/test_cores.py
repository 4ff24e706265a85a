import os
import subprocess
import sys

import pytest
import torch
from PIL import AvifImagePlugin

from ulcompress.functional import cores as module
from ulcompress.functional.cores import cores, limited, threads


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that makes a machine of eight cores, with files of cgroups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(module, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(module, "MEMBERSHIP", tmp_path / "membership")

    def make(membership, **files):
        (tmp_path / "membership").write_text(membership)
        for name, content in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return make


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("", {}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/a/b\n", {"a/cpu.max": "350000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/not/here\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/../elsewhere\n", {"cpu.max": "400000 100000\n"}, 4),
        (
            "4:cpu,cpuacct:/a\n1:memory:/b\n",
            {"cpu/a/cpu.cfs_quota_us": "500000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            5,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "nonsense\n"}, 8),
    ],
)
def test_the_quota_of_the_container_counts(machine, membership, files, expected):
    machine(membership, **files)
    assert cores() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there is no affinity here")
def test_the_affinity_counts():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from ulcompress.functional.cores import cores; print(cores())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("variable", "processes", "expected"),
    [
        (None, 1, 8),
        (None, 3, 2),
        (None, 9, 1),
        ("3", 1, 3),
        ("3", 4, 2),
        ("99", 1, 8),
        ("2,4", 1, 2),
        ("0", 1, 8),
        ("x", 2, 4),
    ],
)
def test_each_process_has_its_part_and_no_more_than_the_variable_says(
    machine, monkeypatch, variable, processes, expected
):
    machine("")
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert threads(processes) == expected


@pytest.mark.parametrize("variable", [None, "7"])
def test_a_limit_holds_for_torch_decoders_and_programs_and_is_taken_back(one_thread, monkeypatch, variable):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    before = torch.get_num_threads(), AvifImagePlugin.DEFAULT_MAX_THREADS
    with pytest.raises(KeyError), limited(2):
        assert (torch.get_num_threads(), AvifImagePlugin.DEFAULT_MAX_THREADS) == (2, 2)
        told = subprocess.run(["sh", "-c", "echo $OMP_NUM_THREADS"], capture_output=True, text=True).stdout
        assert told == "2\n"
        raise KeyError
    assert (torch.get_num_threads(), AvifImagePlugin.DEFAULT_MAX_THREADS) == before
    assert os.environ.get("OMP_NUM_THREADS") == variable


def test_commands_take_the_cores_that_there_are():
    code = (
        "import sys; sys.argv = ['ulcompress', 'info', 'none.ulc']\n"
        "import ulcompress.functional.cores; ulcompress.functional.cores.cores = lambda: 1\n"
        "from ulcompress.commands.main import main\n"
        "try: main()\n"
        "except SystemExit: import torch; print(torch.get_num_threads())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "1", done.stderr

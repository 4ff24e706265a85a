import os

import pytest

from ulcompress.functional.folders import files_below, find_files


@pytest.fixture
def tree(tmp_path):
    """A folder of files, some hidden."""
    for name in ("b.png", "a.PNG", "z/a.png", "notes.txt", ".hidden.png", ".git/c.png", "z/.cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    return tmp_path


def below(folder):
    return [path.relative_to(folder).as_posix() for path in files_below(folder, {".png"})]


def test_hidden_files_and_folders_are_left_out_unless_they_are_named(tree):
    assert below(tree) == ["a.PNG", "b.png", "z/a.png"]
    assert below(tree / ".git") == ["c.png"]
    assert find_files([tree / ".hidden.png"], {".png"}, kind="image") == [tree / ".hidden.png"]


def test_paths_begin_as_the_folder_was_named(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert [str(path) for path in find_files([".", "z"], {".png"}, kind="image")] == ["a.PNG", "b.png", "z/a.png"]


def test_a_linked_folder_is_followed_and_a_linked_file_taken(tree, tmp_path_factory):
    away = tmp_path_factory.mktemp("away")
    (away / "x.png").touch()
    (tree / "0link").symlink_to(away)
    (tree / "file.png").symlink_to(away / "x.png")
    assert below(tree) == ["0link/x.png", "a.PNG", "b.png", "file.png", "z/a.png"]


def test_files_keep_their_own_names_where_a_link_leads_to_their_folder(tree):
    (tree / "0link").symlink_to("z")
    with pytest.warns(UserWarning, match="0link is left out: it leads to a folder that is searched already"):
        assert below(tree) == ["a.PNG", "b.png", "z/a.png"]


def test_a_link_that_leads_back_is_said_and_ends_nothing(tree):
    (tree / "z" / "back").symlink_to("..")
    with pytest.warns(UserWarning, match="z/back is left out: it leads to a folder that is searched already"):
        assert below(tree) == ["a.PNG", "b.png", "z/a.png"]


@pytest.mark.parametrize(("target", "reason"), [("none", "No such file"), ("loop.png", "Too many levels")])
def test_links_that_lead_nowhere_are_said(tree, target, reason):
    (tree / "loop.png").symlink_to(target)
    with pytest.warns(UserWarning, match=rf"loop\.png is left out: it leads nowhere, {reason}"):
        assert below(tree) == ["a.PNG", "b.png", "z/a.png"]


def test_folders_that_cannot_be_read_are_said(tree, monkeypatch):
    scan = os.scandir

    def refuse(place):
        if os.fspath(place).endswith("z"):
            raise PermissionError(13, "Permission denied")
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(UserWarning, match="z is left out: Permission denied"):
        assert below(tree) == ["a.PNG", "b.png"]


def test_pipes_are_no_files(tree):
    os.mkfifo(tree / "pipe.png")
    assert below(tree) == ["a.PNG", "b.png", "z/a.png"]


def test_what_is_missing_or_empty_is_one_line(tree):
    with pytest.raises(ValueError, match=r"none: no such file or folder; check the path$"):
        find_files([tree / "none"], {".ulc"}, kind=".ulc file")
    with pytest.raises(ValueError, match=r"no \.ulc file in this folder or below; looked for \.ulc; give another"):
        find_files([tree], {".ulc"}, kind=".ulc file")

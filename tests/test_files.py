"""Files hash what is written, replace atomically, and never leave their folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetfm import files
from edgetfm.errors import InputError, OutputError
from edgetfm.folders import NewFolder, finish_interrupted_swap


def test_a_new_file_knows_its_hash_and_length(tmp_path: Path) -> None:
    with files.NewFile(tmp_path / "deep" / "er" / "file") as file:
        file.write(b"abc")
        file.write(memoryview(np.arange(3, dtype=np.float32)))
        file.pad_to(64)
        file.pad_to(64)
    content = (tmp_path / "deep" / "er" / "file").read_bytes()
    assert file.bytes == len(content) == 64
    assert file.sha256 == hashlib.sha256(content).hexdigest() == files.sha256(file.path)


def test_a_file_that_does_not_stay_is_there_to_be_read_but_not_forced_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    monkeypatch.setattr(files, "hook", events.append)
    for stays in (False, True):
        with files.NewFile(tmp_path / "file", stays=stays) as file:
            file.write(b"abc")
            file.pad_to(64)
        assert file.path.read_bytes() == b"abc" + bytes(61)
        assert any("fsync" in event for event in events) == stays


def test_a_file_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="could not write"):
        files.NewFile(tmp_path / "file" / "below")
    with pytest.raises(OutputError, match="could not write"):
        files.NewFile(tmp_path / ("x" * 300))


def test_an_atomic_write_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "parity.json"
    files.write_atomic(path, b"one")
    files.write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_an_atomic_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "parity.json"
    files.write_atomic(path, b"one")

    def fail(event: str) -> None:
        if event.startswith("before rename"):
            raise RuntimeError(event)

    monkeypatch.setattr(files, "hook", fail)
    with pytest.raises(RuntimeError, match=r"parity\.json"):
        files.write_atomic(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_two_folders_are_exchanged_in_one_step(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    if not files.exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot")
    assert (tmp_path / "a" / "content").read_text() == "b"
    assert (tmp_path / "b" / "content").read_text() == "a"


def test_an_exchange_that_cannot_be_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match="No such file"):
        files.exchange(tmp_path / "a", tmp_path / "absent")


@pytest.mark.parametrize(
    "relative",
    ["", ".", "..", "../x", "a/../../x", "a/..", "/etc/passwd", "a\\..\\x", "x\0y", "C:\\x"],
)
def test_a_path_that_leaves_its_folder_is_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(InputError, match="path"):
        files.inside(tmp_path, relative)


def test_a_link_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("secret")
    (root / "file").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "fine").symlink_to(root / "real")
    for relative in ("file", "folder/secret", "loop/x"):
        with pytest.raises(InputError, match="path"):
            files.inside(root, relative)
    assert files.inside(root, "fine") == root / "fine"


@given(st.text(min_size=1, max_size=30))
def test_no_text_names_a_path_outside(relative: str) -> None:
    root = Path("/nowhere/root")
    try:
        path = files.inside(root, relative)
    except InputError:
        return
    assert path != root
    assert root in path.parents


def test_what_was_abandoned_is_removed_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    target = tmp_path / "out[1]"
    (tmp_path / ".out[1].00000000.partial").mkdir()
    (tmp_path / ".out[1].00000001.new").mkdir()
    (tmp_path / ".out[1].00000001.old").mkdir()
    (tmp_path / ".out[1].00000002.partial").write_text("a file")
    others = [".out1.00000000.partial", ".out[1].notes.partial", ".out[1].x.00000000.new"]
    for name in others:
        (tmp_path / name).mkdir()
    used = tmp_path / ".out[1].00000003.partial"
    used.mkdir()
    with files.Lock(used) as lock:
        assert lock.held
        files.remove_abandoned(target)
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*others, used.name])
    files.remove_abandoned(target)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)


def test_only_a_swap_that_had_begun_is_finished(tmp_path: Path) -> None:
    target, new = tmp_path / "out", tmp_path / ".out.00000001.new"
    new.mkdir()
    (new / "content").write_text("new")
    finish_interrupted_swap(target)
    assert not target.exists()
    new.with_suffix(".old").mkdir()
    finish_interrupted_swap(target)
    assert (target / "content").read_text() == "new"


def test_a_folder_is_put_in_place_by_commit_only(tmp_path: Path) -> None:
    target = tmp_path / "made" / "on the way" / "out"
    with NewFolder(target) as folder:
        (folder.path / "content").write_text("half")
    assert list(tmp_path.iterdir()) == []
    with NewFolder(target) as folder:
        (folder.path / "content").write_text("whole")
        folder.commit(replace=False)
    assert (target / "content").read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("replace", [True, False])
def test_a_folder_does_not_replace_a_file_or_a_link(tmp_path: Path, replace: bool) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("file", "link"):
        with NewFolder(tmp_path / name) as folder, pytest.raises(OutputError, match="left alone"):
            folder.commit(replace=replace)
    assert (tmp_path / "file").read_text() == "kept"
    assert (tmp_path / "link" / "x").read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder", "link"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with NewFolder(tmp_path / "out") as folder:
        (folder.path / "content").write_text("whole")
        folder.commit(replace=False)
    assert (tmp_path / "out" / "content").read_text() == "whole"


def test_a_full_disk_that_a_library_meets_is_an_output_error_too(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"), NewFolder(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    with pytest.raises(ConnectionError), NewFolder(tmp_path / "out"):
        raise ConnectionError("none of the disk's business")
    assert list(tmp_path.iterdir()) == []

"""Killed at any moment, a write leaves the old bundle or the new one, and the next no litter."""

from __future__ import annotations

import functools
import itertools
import os
import resource
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgetfm import files
from edgetfm.bundle import BundleWriter, open_bundle
from edgetfm.errors import BundleError, OutputError
from edgetfm.manifest import Component, Manifest, Variant
from edgetfm.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("logits", "float32", ("batch", 2)),)
)


def write_bundle(target: Path, content: str, *, force: bool = False) -> None:
    """A bundle whose every file holds `content`."""
    with BundleWriter(target, force=force) as writer:
        with writer.create("onnx/model.onnx_data") as data:
            data.write(content.encode() * 3)
            data.pad_to(64)
            data.write(content.encode())
        writer.add("onnx/model.onnx_data", data)
        writer.write("onnx/model.onnx", content)
        writer.write("config.json", content)
        writer.write("parity.json", content)
        writer.commit(
            Manifest(
                task="text-classification",
                family="bert",
                route="native",
                default="fp32",
                components={
                    "model": Component(
                        SIGNATURE,
                        {"fp32": Variant("onnx/model.onnx", "onnx/model.onnx_data")},
                    )
                },
                source={"content": content},
            )
        )


def content_of(target: Path) -> str:
    """What a bundle accepted by `open_bundle` holds, the same in every file."""
    bundle = open_bundle(target)
    content: str = bundle.manifest.source["content"]
    assert bundle.path("onnx/model.onnx").read_text() == content
    assert bundle.path("config.json").read_text() == content
    assert bundle.path("parity.json").read_text() == content
    return content


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; its wait status."""
    return os.waitpid(start_child(work), 0)[1]


def start_child(work: Callable[[], None]) -> int:
    """Start a forked child that does `work`; its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: other tests' threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def kills(work: Callable[[], None]) -> Iterator[None]:
    """Kill a child that does `work` at its first announcement, then one at its second, and so on.

    Goes on until a child gets through.
    """
    for event in itertools.count(1):

        def armed(last: int = event) -> None:
            seen = itertools.count(1)

            def kill(_: str) -> None:
                if next(seen) == last:
                    os.kill(os.getpid(), signal.SIGKILL)

            files.hook = kill
            work()

        status = in_child(armed)
        if status == 0:
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield


@pytest.fixture(params=[True, False])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the system can exchange two folders at once."""
    if not request.param:
        monkeypatch.setattr(files, "exchange", lambda one, other: False)
    return bool(request.param)


def litter(target: Path) -> list[str]:
    return sorted(p.name for p in target.parent.iterdir() if p != target)


def test_a_killed_write_of_a_new_bundle_leaves_it_whole_or_absent(tmp_path: Path) -> None:
    seen = []
    target = tmp_path / "out"
    for _ in kills(lambda: write_bundle(target, "new")):
        if target.exists():
            seen.append(content_of(target))
        else:
            with pytest.raises(BundleError, match="does not exist"):
                open_bundle(target)
            seen.append("none")
        write_bundle(target, "next", force=True)
        assert content_of(target) == "next"
        assert litter(target) == []
        files.remove_tree(target)
    assert set(seen) == {"new", "none"}
    assert len(seen) >= 20


@pytest.mark.usefixtures("exchange")
def test_a_killed_replacement_leaves_the_old_bundle_or_the_new_one(tmp_path: Path) -> None:
    seen = []
    target = tmp_path / "out"
    write_bundle(target, "old")
    for _ in kills(lambda: write_bundle(target, "new", force=True)):
        seen.append(content_of(target))
        write_bundle(target, "old", force=True)
        assert content_of(target) == "old"
        assert litter(target) == []
    assert content_of(target) == "new"
    assert set(seen) == {"old", "new"}
    assert len(seen) >= 20


@pytest.mark.usefixtures("exchange")
def test_a_bundle_removed_after_a_killed_replacement_stays_removed(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write_bundle(target, "old")
    for _ in kills(lambda: write_bundle(target, "new", force=True)):
        content_of(target)
        files.remove_tree(target)
        with pytest.raises(BundleError, match="does not exist"):
            open_bundle(target)
        write_bundle(target, "old")
        assert litter(target) == []


def test_a_killed_replacement_of_a_file_leaves_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    seen = set()
    path = tmp_path / "parity.json"
    path.write_text("old")
    for _ in kills(lambda: files.write_atomic(path, b"new")):
        seen.add(path.read_text())
        files.write_atomic(path, b"old")
        assert litter(path) == []
    assert path.read_text() == "new"
    assert seen == {"old", "new"}


def test_a_full_disk_is_an_error_and_leaves_the_old_bundle(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write_bundle(target, "old")

    def starved() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
        with pytest.raises(OutputError, match=r"could not write .*File too large"):
            write_bundle(target, "x" * 60_000, force=True)
        # Found only when the buffer is flushed.
        with pytest.raises(OutputError, match="File too large"):
            write_bundle(target, "x" * 8_000, force=True)
        with pytest.raises(OutputError, match="File too large"):
            write_bundle(tmp_path / "fresh", "x" * 60_000)

    assert in_child(starved) == 0
    assert content_of(target) == "old"
    assert litter(target) == []


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a tmpfs as root")
def test_a_really_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "edgetfm-test", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this container may not mount")
    try:
        write_bundle(tmp_path / "out", "old")
        with pytest.raises(OutputError, match="No space left on device"):
            write_bundle(tmp_path / "out", "x" * 40_000, force=True)
        assert content_of(tmp_path / "out") == "old"
        assert litter(tmp_path / "out") == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(event: str) -> None:
        if event == "before fsync model.onnx":
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "hook", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "out", "new")
    assert list(tmp_path.iterdir()) == []


def test_writers_at_work_leave_each_other_alone(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with BundleWriter(target) as first:
        first.write("config.json", "{}")
        write_bundle(target, "second")
        assert first.path("config.json").is_file()
    assert content_of(target) == "second"
    assert litter(target) == []


def test_a_bundle_that_appeared_meanwhile_is_not_replaced_without_force(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def racing(event: str) -> None:
        if event == "before write edgetfm.json":
            files.hook = None
            write_bundle(target, "first")

    files.hook = racing
    try:
        with pytest.raises(OutputError, match="exists"):
            write_bundle(target, "second")
    finally:
        files.hook = None
    assert content_of(target) == "first"
    assert litter(target) == []


def test_many_writers_of_one_target_leave_one_whole_bundle(tmp_path: Path, exchange: bool) -> None:
    target = tmp_path / "out"
    write_bundle(target, "first")

    def write_often(name: str) -> None:
        for turn in range(8):
            try:
                write_bundle(target, f"{name} {turn}", force=True)
            except OutputError:
                assert not exchange  # two renames may meet: said, never half written

    children = [start_child(functools.partial(write_often, name)) for name in "abcd"]
    while children:
        done, status = os.waitpid(children[0], os.WNOHANG)
        if done:
            assert status == 0
            children.pop(0)
        if exchange:  # there at every moment
            assert (target / "edgetfm.json").is_file()
    content_of(target)
    write_bundle(target, "last", force=True)
    assert litter(target) == []

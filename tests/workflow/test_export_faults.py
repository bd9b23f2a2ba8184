"""An export that is killed at any write, fsync or rename leaves the old bundle or the new one."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetfm import export_model, files, verify_bundle
from edgetfm.bundle import open_bundle
from edgetfm.errors import BundleError

OLD, NEW = "cosine:0.4", "cosine:0.5"
"""The budgets by which the old bundle and the new one are told apart."""

KILLER = """
import json, os, shutil, signal, sys
from pathlib import Path

import onnx, onnx_ir, onnxruntime, torch, torch.onnx, transformers  # before the forks, not in each

from edgetfm import files
from edgetfm.bundle import open_bundle
from edgetfm.errors import BundleError
from edgetfm.workflow.export import export_model
from edgetfm.workflow.verify import verify_bundle

torch.set_num_threads(1)
source, old, folder = (Path(a) for a in sys.argv[1:4])
budget = sys.argv[4]
step = int(sys.argv[5])


def child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def export(target, kill_at=None, note=None):
    events = []

    def hook(event):
        events.append(event)
        if len(events) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    files.hook = hook
    export_model(source, target, quantize="int8", max_drop=budget, force=True)
    if note:
        note.write_text(json.dumps(events))


def look(target, note):
    try:
        found = open_bundle(target).manifest.budget
    except BundleError as error:
        found = str(error)
    else:
        assert verify_bundle(target).passed
    note.write_text(json.dumps(found))


note = folder / "note.json"
assert child(lambda: export(folder / "whole", note=note)) == 0
events = json.loads(note.read_text())
for kill_at in range(1, len(events) + 1, step):
    target = folder / f"killed-{kill_at}"
    shutil.copytree(old, target)
    status = child(lambda: export(target, kill_at))
    if status == 0 and kill_at > len(events) - 4:
        continue  # a replaced bundle makes a few more events than a fresh one, or fewer
    assert status == -signal.SIGKILL, (kill_at, status)
    assert child(lambda: look(target, note)) == 0, (kill_at, events[kill_at - 1])
    row = {"event": events[kill_at - 1], "found": json.loads(note.read_text())}
    if kill_at % (5 * step) == 1:
        assert child(lambda: export(target)) == 0, kill_at
        row["litter"] = [p.name for p in folder.glob(f".{target.name}.*")]
    print(json.dumps(row), flush=True)
    shutil.rmtree(target, ignore_errors=True)
"""


def kill_exports(tiny_hf, tmp_path: Path, *, step: int) -> list[dict[str, str]]:
    """Kill forks of a process that has imported everything and started no threads; what is left."""
    source = tiny_hf("bert", "text-classification", tmp_path / "source")
    old = export_model(source, tmp_path / "old", max_drop=OLD).path
    (tmp_path / "work").mkdir()
    run = subprocess.run(
        [sys.executable, "-c", KILLER, source, old, tmp_path / "work", NEW, str(step)],
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.slow
def test_an_export_killed_for_real_leaves_the_old_bundle_or_the_new_one(
    tiny_hf, tmp_path: Path
) -> None:
    rows = kill_exports(tiny_hf, tmp_path, step=45)
    assert len(rows) >= 2
    for row in rows:
        assert row["found"] in (OLD, NEW), row
        assert not row.get("litter")


@pytest.mark.parametrize(
    "force",
    [pytest.param(False, id="fresh"), pytest.param(True, id="force", marks=pytest.mark.slow)],
)
def test_a_kill_at_any_moment_leaves_the_old_bundle_or_the_new_one(
    tiny_hf, tmp_path: Path, force: bool
) -> None:
    """What a kill leaves is what is on disk: it is copied before and after every step."""
    source = tiny_hf("bert", "text-classification", tmp_path / "source")
    target = tmp_path / "work" / "bundle"
    if force:
        export_model(source, target, max_drop=OLD)
    target.parent.mkdir(exist_ok=True)
    events = record_disk(
        target.parent,
        tmp_path / "moments",
        lambda: export_model(source, target, quantize="int8", max_drop=NEW, force=force),
    )
    found = [after_kill(tmp_path / "moments" / str(i) / "bundle") for i in range(len(events))]
    kinds = {event.split()[1] for event in events}
    assert kinds >= {"write", "fsync", "exchange" if force else "rename"}, kinds
    assert found[0] == (OLD if force else None)
    assert found[-1] == NEW
    changes = [i for i in range(1, len(found)) if found[i] != found[i - 1]]
    assert len(changes) == 1, "one step puts the new bundle in place"
    assert events[changes[0]].startswith("after exchange" if force else "after rename")


def record_disk(folder: Path, moments: Path, work: Callable[[], object]) -> list[str]:
    """Do `work`, and copy `folder` to `moments`/NUMBER at every event; the events."""
    events: list[str] = []

    def hook(event: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # what is being removed
            shutil.copytree(folder, moments / str(len(events)))
        events.append(event)

    files.hook = hook
    try:
        work()
    finally:
        files.hook = None
    return events


def after_kill(target: Path) -> str | None:
    """The budget of the bundle that is there, which verifies; None for none. No litter stays."""
    found = None
    if (target / "edgetfm.json").exists():
        found = open_bundle(target).manifest.budget
        assert verify_bundle(target).passed
    else:
        with pytest.raises(BundleError, match="no bundle at"):
            open_bundle(target)
    files.remove_abandoned(target)
    assert {p.name for p in target.parent.iterdir()} <= {target.name}
    return found

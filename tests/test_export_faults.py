"""An export that is killed at any write, fsync or rename leaves the old bundle or the new one.

Each kill is a real one (SIGKILL) of a real export with its proof, in a fork of a process that has
imported everything and started no threads.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgetfm import export_model

OLD, NEW = "cosine:0.4", "cosine:0.5"
"""The budgets by which the old bundle and the new one are told apart."""

KILLER = """
import json, os, shutil, signal, sys
from pathlib import Path

import onnx, onnx_ir, onnxruntime, torch, torch.onnx, transformers  # before the forks, not in each

from edgetfm import files
from edgetfm.bundle import open_bundle
from edgetfm.errors import BundleError
from edgetfm.workflow import export_model, verify_bundle

torch.set_num_threads(1)
source, old, folder = (Path(a) for a in sys.argv[1:4])
budget = sys.argv[4]
force, step = sys.argv[5] == "force", int(sys.argv[6])


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
    if force:
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


def kill_exports(tiny_hf, tmp_path: Path, *, force: bool, step: int) -> list[dict[str, str]]:
    source = tiny_hf("bert", "text-classification", tmp_path / "source")
    old = export_model(source, tmp_path / "old", max_drop=OLD).path
    (tmp_path / "work").mkdir()
    mode = "force" if force else "fresh"
    run = subprocess.run(
        [sys.executable, "-c", KILLER, source, old, tmp_path / "work", NEW, mode, str(step)],
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.parametrize(
    ("force", "step"),
    [
        pytest.param(True, 30, id="force-some"),
        pytest.param(True, 1, id="force-all", marks=pytest.mark.slow),
        pytest.param(False, 1, id="fresh-all", marks=pytest.mark.slow),
    ],
)
def test_a_killed_export_leaves_the_old_bundle_or_the_new_one(
    tiny_hf, tmp_path: Path, force: bool, step: int
) -> None:
    rows = kill_exports(tiny_hf, tmp_path, force=force, step=step)
    assert len(rows) >= 2
    for row in rows:
        whole = (OLD, NEW) if force else (NEW,)
        nothing = not force and "no bundle at" in row["found"]
        assert row["found"] in whole or nothing, row
        assert not row.get("litter")
    if step == 1:
        kinds = {row["event"].split()[1] for row in rows}
        assert kinds >= {"write", "fsync", "exchange" if force else "rename"}, kinds
        assert {row["found"] in whole for row in rows} == ({True} if force else {True, False})

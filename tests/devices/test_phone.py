"""A phone over adb: the ARM system under qemu, behind an adb that stands in."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetfm.runtime.remote.emulated import arm_command
from edgetfm.workflow.export import export_model
from edgetfm.workflow.sweep import parse_sweep, sweep
from edgetfm.workflow.verify import verify_bundle
from tests.devices.rows import ready
from tests.phones import attach_phone

pytestmark = pytest.mark.devices


def test_an_arm_phone_proves_a_bundle_and_times_itself(
    tiny_hf: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready("arm64")
    root = attach_phone(tmp_path, monkeypatch, shlex.join(arm_command("neoverse-n1")))
    source = tiny_hf("bert", "feature-extraction", tmp_path / "source")
    bundle = export_model(source, tmp_path / "bundle").path
    ledger = verify_bundle(bundle, device="adb:PHONE")
    assert ledger.passed, ledger.failures
    assert ledger.devices[0]["load_ms"] > 0
    axes = parse_sweep(["threads=1,2", "sequence=4,8"])
    swept = sweep(bundle, axes, device="adb:PHONE", runs=3, rest=0.1)["rows"]
    assert [(row["threads"], row["sequence"]) for row in swept] == [(1, 4), (1, 8), (2, 4), (2, 8)]
    for found in swept:
        assert found["machine"]["architecture"] == "aarch64"
        assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p95"]
        assert found["peak_memory_mb"] > 0
    assert not list((root / "data" / "local" / "tmp" / "edgetfm").iterdir())

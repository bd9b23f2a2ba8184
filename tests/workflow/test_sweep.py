"""A sweep measures every combination, and goes on where a device cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgetfm.cli import main
from edgetfm.errors import DeviceError, InputError
from edgetfm.runtime.devices import DEVICES
from edgetfm.runtime.remote import runner
from edgetfm.workflow import sweep as sweeps


@pytest.fixture
def bundle(tiny_bundle: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny encoder, and a device `near` that is the runner in this process."""
    ready: dict[str, Any] = {"missing": lambda: None, "prepare": lambda: None}
    near = replace(DEVICES["arm64"], name="near", proves="measured", answer=runner.main, **ready)
    monkeypatch.setitem(DEVICES, "near", near)
    found: Path = tiny_bundle("bert", "feature-extraction").bundle
    return found


def test_every_combination_is_measured_with_rests_between(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(sweeps.time, "sleep", rests.append)
    axes = sweeps.parse_sweep(["threads=1,2", "sequence=4, 8,8"])
    found = sweeps.sweep(bundle, axes, rest=7, device="near", runs=2)
    sizes = [(row["threads"], row["sequence"]) for row in found["rows"]]
    assert sizes == [(1, 4), (1, 8), (2, 4), (2, 8)]
    assert rests == [7, 7, 7]
    assert all(row["latency_ms"]["p50"] > 0 for row in found["rows"])


def test_a_device_that_cannot_is_a_row_and_the_others_go_on(
    bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", str(bundle), "--sweep", "device=nnapi,near", "--runs", "1", "--sequence", "4"]
    assert main(words) == 0
    assert "device nnapi: nnapi is static" in capfd.readouterr().out
    assert main([*words, "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)["rows"]
    assert [row["device"] for row in rows] == ["nnapi", "near"]
    assert ("error" in rows[0], "error" in rows[1]) == (True, False)
    with pytest.raises(DeviceError, match="nnapi is static"):
        sweeps.sweep(bundle, {"device": ["nnapi"]})


def test_what_cannot_be_swept_is_all_said_at_once() -> None:
    wrong = ["runs=1", "threads=0,2", "batch=", "sequence=4", "sequence=8"]
    with pytest.raises(InputError) as error:
        sweeps.parse_sweep(wrong)
    for said in ("'runs' cannot be swept", "'threads=0,2'", "batch=A,B", "sequence is swept twice"):
        assert said in str(error.value)
    with pytest.raises(InputError, match="225 combinations are too many"):
        sweeps.parse_sweep(
            [f"{axis}={','.join(map(str, range(1, 16)))}" for axis in ("batch", "threads")]
        )

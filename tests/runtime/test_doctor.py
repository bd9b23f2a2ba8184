"""The doctor finds what is there, and says what to do about what is not."""

from __future__ import annotations

import json
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from edgetfm.runtime import doctor
from edgetfm.runtime.devices import DEVICES
from edgetfm.runtime.doctor import EXTRAS, Check, examine


def found(name: str) -> Check:
    return next(check for check in examine() if check["name"] == name)


def test_every_check_has_the_same_form() -> None:
    checks = examine()
    assert json.loads(json.dumps(checks)) == checks
    for check in checks:
        assert set(check) == {"name", "ok", "found", "do"}
        assert (check["do"] is None) == check["ok"]
    names = {check["name"] for check in checks}
    assert {f"device {name}" for name in DEVICES} <= names
    assert found("python")["ok"]
    assert found("device cpu")["ok"]
    assert found("onnxruntime")["ok"]


def test_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    declared = {
        name: {Requirement(line).name for line in lines}
        for name, lines in project["optional-dependencies"].items()
        if name not in ("cpu", "gpu", "dev")
    }
    assert {name: set(needs) for name, needs in EXTRAS.items()} == declared


def test_two_runtimes_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"onnxruntime": ["onnxruntime", "onnxruntime-gpu", "onnxruntime"]}
    monkeypatch.setattr(doctor, "packages_distributions", lambda: both)
    monkeypatch.setattr(doctor, "version", lambda name: "1.31.0")
    check = found("onnxruntime")
    assert not check["ok"]
    assert check["found"] == "onnxruntime 1.31.0, onnxruntime-gpu 1.31.0"
    assert "pip uninstall onnxruntime onnxruntime-gpu" in str(check["do"])


def test_no_runtime_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "packages_distributions", dict)
    assert found("onnxruntime")["do"] == "pip install 'edgetfm[cpu]'"


def test_a_missing_extra_names_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "soundfile":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    check = found("extra audio")
    assert not check["ok"]
    assert "missing soundfile" in check["found"]
    assert check["do"] == "pip install 'edgetfm[audio]'"
    assert found("extra vision") == {
        "name": "extra vision", "ok": True, "found": "pillow 1.0", "do": None,
    }  # fmt: skip

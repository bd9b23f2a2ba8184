"""A wheel holds one copy of everything that is needed, and every dependency is pinned."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOP_LEVEL = ("export", "quantize", "runtime")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked wheel, built from a copy of what git would hand out."""
    copy = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, target = ROOT / name, copy / name
        if not source.exists() and not source.is_symlink():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        else:
            target.write_bytes(source.read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*build, "-w", str(copy / "out"), str(copy)], check=True)
    (built,) = (copy / "out").glob("edgetfm-*.whl")
    unpacked = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(built) as archive:
        assert len(set(archive.namelist())) == len(archive.namelist())
        archive.extractall(unpacked)
    return unpacked


@pytest.fixture(scope="module")
def wheel(installed: Path) -> set[str]:
    """The names in the wheel."""
    return {p.relative_to(installed).as_posix() for p in installed.rglob("*") if p.is_file()}


def test_a_wheel_has_one_copy_of_each_module(wheel: set[str]) -> None:
    shipped = [n for n in wheel if n.startswith("edgetfm/")]
    beside = {n for n in wheel if ".dist-info/" not in n and not n.startswith("edgetfm/")}
    assert beside == {"optimum/commands/register/register_edgetfm.py"}
    for name in TOP_LEVEL:
        modules = {p.name for p in (ROOT / name).glob("*.py")}
        there = {PurePosixPath(n).name for n in shipped if PurePosixPath(n).parts[1] == name}
        assert modules <= there


def test_a_wheel_has_the_files_that_are_read_at_run_time(wheel: set[str]) -> None:
    data = ["py.typed", "reporting/report.html.j2", "reporting/card.md.j2"]
    data += [f"samples/{p.name}" for p in (ROOT / "edgetfm" / "samples").glob("*.*")]
    data += [f"configs/{p.name}" for p in (ROOT / "edgetfm" / "configs").glob("*.toml")]
    assert {f"edgetfm/{name}" for name in data} <= wheel
    assert len(data) > 4


def test_a_wheel_runs_without_its_checkout(installed: Path, tmp_path: Path) -> None:
    program = (
        "import edgetfm.export, edgetfm.quantize, edgetfm.runtime, edgetfm.samples\n"
        "from edgetfm.training.config import load_config\n"
        "assert edgetfm.samples.texts() and load_config('vit-digits')\n"
        "print(edgetfm.export.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(installed / "edgetfm" / "export" / "__init__.py")


PINS = {
    canonicalize_name(name): Version(version)
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
}


def test_constraints_are_exact_pins_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    other = [x for x in lines if not x.startswith("#") and not re.fullmatch(r"[\w.-]+==[\w.]+", x)]
    assert other == []
    assert len(PINS) == len([x for x in lines if not x.startswith("#")])


def test_every_dependency_is_pinned_to_a_version_it_allows() -> None:
    wanted = PROJECT["project"]["dependencies"] + [
        text for extra in PROJECT["project"]["optional-dependencies"].values() for text in extra
    ]
    unpinned = []
    for requirement in map(Requirement, wanted):
        pin = PINS.get(canonicalize_name(requirement.name))
        if pin is None or pin not in requirement.specifier:
            unpinned.append(str(requirement))
    assert unpinned == []


@pytest.mark.parametrize("name", ["numpy", "onnx-ir", "torch", "transformers"])
def test_tests_run_on_the_pinned_versions(name: str) -> None:
    assert Version(Version(distribution(name).version).public) == PINS[canonicalize_name(name)]

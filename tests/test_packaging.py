"""What is installed is what is in the tree, once, and every pin is there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOP_LEVEL = ("export", "quantize", "runtime")


def packages_in_the_tree() -> set[str]:
    """Every folder below edgetfm/ that holds code or data that ships, as a package name."""
    found = set()
    for top in (ROOT / "edgetfm", *(ROOT / name for name in TOP_LEVEL)):
        for file in top.rglob("*"):
            if file.suffix in (".py", ".toml") and "__pycache__" not in file.parts:
                parts = file.parent.relative_to(ROOT).parts
                if parts[:2] in {("edgetfm", name) for name in TOP_LEVEL}:
                    continue  # seen through a link, listed from its own folder
                found.add(".".join(parts if parts[0] == "edgetfm" else ("edgetfm", *parts)))
    return found


def test_the_list_of_packages_is_the_tree() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages_in_the_tree()


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_a_top_level_folder_is_one_package(name: str) -> None:
    link = ROOT / "edgetfm" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert PROJECT["tool"]["setuptools"]["package-dir"][f"edgetfm.{name}"] == name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel built from a copy of what git would hand out."""
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
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_a_wheel_has_one_copy_of_each_module(wheel: list[str]) -> None:
    shipped = [n for n in wheel if n.startswith("edgetfm/")]
    assert {PurePosixPath(n).parts[0] for n in wheel if ".dist-info/" not in n} == {"edgetfm"}
    assert [n for n, count in Counter(wheel).items() if count > 1] == []
    for name in TOP_LEVEL:
        modules = {p.name for p in (ROOT / name).glob("*.py")}
        there = {PurePosixPath(n).name for n in shipped if PurePosixPath(n).parts[1] == name}
        assert modules <= there


def test_a_wheel_has_the_files_that_are_read_at_run_time(wheel: list[str]) -> None:
    data = ["py.typed", "report.html.j2", "card.md.j2"]
    data += [f"samples/{p.name}" for p in (ROOT / "edgetfm" / "samples").glob("*.*")]
    data += [f"configs/{p.name}" for p in (ROOT / "edgetfm" / "configs").glob("*.toml")]
    assert {f"edgetfm/{name}" for name in data} <= set(wheel)
    assert len(data) > 4


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


@pytest.mark.parametrize("name", ["numpy", "onnxruntime", "onnx-ir", "torch", "transformers"])
def test_tests_run_on_the_pinned_versions(name: str) -> None:
    assert Version(Version(distribution(name).version).public) == PINS[canonicalize_name(name)]

"""What is installed is what is in the tree."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

import edgetfm

ROOT = Path(__file__).parents[1]
TOP_LEVEL = ("export", "quantize", "runtime")
NAMESPACE = "optimum.commands.register"
"""Where other people's programs look for ours: a package without __init__.py (PEP 420)."""


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def folders_with_python(top: Path) -> set[Path]:
    """Folders below `top` that hold Python files, links not followed."""
    found = set()
    for folder, _, names in os.walk(top, followlinks=False):
        if any(name.endswith(".py") for name in names):
            found.add(Path(folder))
    return found


def test_the_list_of_packages_is_the_tree(pyproject: dict[str, Any]) -> None:
    tree = {
        ".".join(folder.relative_to(ROOT).parts) for folder in folders_with_python(ROOT / "edgetfm")
    }
    for name in TOP_LEVEL:
        tree |= {
            ".".join(("edgetfm", *folder.relative_to(ROOT).parts))
            for folder in folders_with_python(ROOT / name)
        }
    setuptools = pyproject["tool"]["setuptools"]
    tree.remove(setuptools["package-dir"][NAMESPACE].replace("/", "."))
    assert sorted(setuptools["packages"]) == sorted({*tree, NAMESPACE})


def test_every_package_is_one(pyproject: dict[str, Any]) -> None:
    setuptools = pyproject["tool"]["setuptools"]
    for package in setuptools["packages"]:
        folder = ROOT / setuptools["package-dir"].get(package, package.replace(".", "/"))
        assert (folder / "__init__.py").is_file() == (package != NAMESPACE), package


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_the_top_level_folders_import_as_ours(name: str, pyproject: dict[str, Any]) -> None:
    link = ROOT / "edgetfm" / name
    assert link.is_symlink()
    assert str(link.readlink()) == f"../{name}"
    assert pyproject["tool"]["setuptools"]["package-dir"][f"edgetfm.{name}"] == name


def test_data_that_the_code_reads_is_packaged(pyproject: dict[str, Any]) -> None:
    wanted = pyproject["tool"]["setuptools"]["package-data"]
    packaged = {
        file.resolve()  # edgetfm/runtime is a link
        for package, patterns in wanted.items()
        for pattern in patterns
        for file in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    for top in ("edgetfm", *TOP_LEVEL):
        for folder, folders, names in os.walk(ROOT / top, followlinks=False):
            folders[:] = [f for f in folders if f != "__pycache__"]
            data = {(Path(folder) / n).resolve() for n in names if not n.endswith((".py", ".pyc"))}
            assert data <= packaged, data - packaged
    assert ROOT / "edgetfm" / "py.typed" in packaged
    assert ROOT / "edgetfm" / "configs" / "vit-digits.toml" in packaged


def test_the_version_is_the_one_that_is_built(pyproject: dict[str, Any]) -> None:
    assert edgetfm.__version__ == pyproject["project"]["version"]


def test_the_base_needs_no_framework(pyproject: dict[str, Any]) -> None:
    base = " ".join(pyproject["project"]["dependencies"])
    for heavy in ("torch", "transformers", "onnx"):
        assert heavy not in base

"""Bundles in an Android project: what is put there, and what is refused."""

import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetfm.bundle import open_bundle
from edgetfm.cli import main
from edgetfm.errors import BundleError, InputError, OutputError
from edgetfm.manifest import MANIFEST
from edgetfm.workflow.android import TASKS, place_bundles

DEMO = Path(__file__).resolve().parents[2] / "android_demo"


@pytest.fixture
def bundle(tiny_bundle: Callable[..., Any]) -> Path:
    made: Path = tiny_bundle("bert", "text-classification").bundle
    return made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "settings.gradle.kts").write_text("")
    return tmp_path / "app"


def test_assets_hold_the_files_of_the_manifest_byte_for_byte(bundle: Path, project: Path) -> None:
    placed = place_bundles([bundle], project)
    (name,) = placed.bundles
    copied = project / "app/src/main/assets/bundles" / name
    assert open_bundle(copied).manifest == open_bundle(bundle).manifest
    assert (copied / MANIFEST).read_bytes() == (bundle / MANIFEST).read_bytes()
    assert not (copied / "parity.json").exists()
    assert json.loads((copied.parent / "bundles.json").read_text()) == [name]


def test_a_bundle_is_replaced_only_when_asked(bundle: Path, project: Path) -> None:
    place_bundles([bundle], project)
    with pytest.raises(OutputError, match="--force"):
        place_bundles([bundle], project)
    place_bundles([bundle], project, force=True)


def test_a_folder_that_is_no_bundle_is_left_alone_whatever_is_asked(
    bundle: Path, project: Path
) -> None:
    place = project / "app/src/main/assets/bundles" / bundle.name
    place.mkdir(parents=True)
    (place / "precious.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(OutputError, match="holds files but is not a bundle"):
            place_bundles([bundle], project, force=force)
    (place / "precious.txt").rename(project / "precious.txt")
    assert list(place_bundles([bundle], project).bundles) == [bundle.name]


def test_what_was_placed_before_a_failure_is_listed(
    bundle: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (shutil.copytree(bundle, tmp_path / name) for name in ("one", "two"))
    folder = project / "app/src/main/assets/bundles"
    (folder / ".one.00000000.partial").mkdir(parents=True)
    (folder / ".one.00000000.partial" / MANIFEST).write_text("a killed writer's, of the one before")
    (folder / ".gone.00000000.partial").mkdir()
    (folder / ".gone.00000000.partial" / MANIFEST).write_text("a killed writer's, of another")
    with monkeypatch.context() as patch:
        _full_after(patch, len(open_bundle(first).manifest.files) + 1)
        with pytest.raises(OutputError, match=r"could not write .*two: No space left"):
            place_bundles([first, second], project)
    assert sorted(p.name for p in folder.glob("[a-z]*")) == ["bundles.json", "one"]
    assert json.loads((folder / "bundles.json").read_text()) == ["one"]
    assert not list(folder.glob(".one*"))


def _full_after(patch: pytest.MonkeyPatch, count: int) -> None:
    """A disk on which so many files can be copied, and no more."""
    copy, copied = shutil.copyfile, iter(range(count))

    def copyfile(source: Path, target: Path, **options: Any) -> Any:
        if next(copied, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return copy(source, target, **options)

    patch.setattr("shutil.copyfile", copyfile)


def test_an_app_is_made_with_its_bundles_or_not_at_all(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_bundles([bundle], tmp_path / "whole")
    files = sum(path.is_file() for path in (tmp_path / "whole").rglob("*")) - 1  # less the list
    shutil.rmtree(tmp_path / "whole")
    for count in (2, files - 1):  # in the midst of the app, and at the bundle's last
        with monkeypatch.context() as patch:
            _full_after(patch, count)
            with pytest.raises(OutputError, match=r"could not write .*mine: .*No space left"):
                place_bundles([bundle], tmp_path / "mine")
        assert list(tmp_path.iterdir()) == []


def test_names_that_cannot_stand_beside_each_other_are_all_told(
    bundle: Path, tmp_path: Path
) -> None:
    names = ("模型", "モデル", "Bundles.json", "y" * 240)
    copies = [shutil.copytree(bundle, tmp_path / "from" / name) for name in names]
    with pytest.raises(InputError) as error:
        place_bundles(copies, tmp_path / "mine")
    said = str(error.value)
    assert f"two bundles are called bundle: {copies[0]} and {copies[1]}" in said
    assert f"{copies[2]}: Bundles.json is the list of bundles" in said
    assert f"{copies[3]}: a name may have 200 characters, this one has 240" in said
    assert not (tmp_path / "mine").exists()


def test_what_is_no_project_is_left_alone(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutputError, match="neither a Gradle project"):
        place_bundles([bundle], tmp_path)
    monkeypatch.setattr("edgetfm.workflow.android.DEMO", tmp_path / "no checkout")
    with pytest.raises(InputError, match="does not exist"):
        place_bundles([bundle], tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mark", ["settings.gradle.kts", "settings.gradle"])
def test_inside_a_project_only_an_assets_folder_is_made(
    bundle: Path, tmp_path: Path, mark: str
) -> None:
    (tmp_path / mark).write_text("")
    with pytest.raises(OutputError, match=r"lies in the Gradle project .*: name that project"):
        place_bundles([bundle], tmp_path / "app" / "src" / "mian")
    assert [file.name for file in tmp_path.iterdir()] == [mark]
    assets = tmp_path / "app" / "src" / "debug" / "assets"
    assert place_bundles([bundle], assets).assets == assets
    assert [folder.name for folder in assets.iterdir()] == ["bundles"]


def test_an_assets_folder_that_is_nowhere_is_not_made(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no Gradle project is around it: name the project"):
        place_bundles([bundle], tmp_path / "assets")
    assert list(tmp_path.iterdir()) == []


def test_a_project_of_its_own_is_the_demo(bundle: Path, tmp_path: Path) -> None:
    placed = place_bundles([bundle], tmp_path / "mine")
    assert placed.warnings == ()
    for name in ("gradlew", "app/src/main/AndroidManifest.xml", "gradle/libs.versions.toml"):
        assert (tmp_path / "mine" / name).read_bytes() == (DEMO / name).read_bytes()
    assert (tmp_path / "mine" / "gradlew").stat().st_mode & 0o100
    assert not (tmp_path / "mine" / "ci").exists()
    assert json.loads((placed.assets / "bundles" / "bundles.json").read_text()) == [bundle.name]


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ('abiFilters += listOf("arm64-v8a", "x86_64")', ()),
        ("abiFilters 'arm64-v8a', 'armeabi-v7a'", ("builds for armeabi-v7a: the app's",)),
        ('abiFilters += "x86_64"', ("does not build for phones' arm64-v8a",)),
        ("minSdk = 24", ("filters no ABIs",)),
        ("abiFilters.addAll(setOf(\n  'arm64-v8a',\n  'mips64'))", ("builds for mips64: the",)),
        ('abiFilters += abis\nversionName = "1.0"', ("filters no ABIs",)),
        ('url = "https://a"; abiFilters += "arm64-v8a"', ()),
        ('// abiFilters += "arm64-v8a"\n/* "x86_64" */', ("filters no ABIs",)),
        ('name = "\xe9"; abiFilters += "arm64-v8a"', ()),
    ],
)
def test_abis_that_do_not_fit_come_with_a_warning(
    bundle: Path, project: Path, filters: str, said: tuple[str, ...]
) -> None:
    (project / "app").mkdir()
    (project / "app" / "build.gradle.kts").write_text(filters, encoding="latin-1")
    warnings = place_bundles([bundle], project).warnings
    assert len(warnings) == len(said)
    assert all(part in warning for part, warning in zip(said, warnings, strict=True))


def test_every_bundle_that_cannot_run_is_named(
    bundle: Path, project: Path, tmp_path: Path, tiny_bundle: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match=f"two bundles are called .*: {bundle} and {bundle}"):
        place_bundles([bundle, bundle], project)
    with pytest.raises(BundleError, match="no bundle"):
        place_bundles([bundle, tmp_path / "none"], project)
    other = tiny_bundle("bert", "question-answering").bundle
    with pytest.raises(InputError, match="does not do question-answering; it does text-class"):
        place_bundles([other], project)
    assert not (project / "app").exists()


def test_a_bundle_too_large_for_a_store_comes_with_a_warning(
    bundle: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place_bundles([bundle], project).warnings == ()
    monkeypatch.setattr("edgetfm.workflow.android.MOST_BYTES", 1000)
    (warning,) = place_bundles([bundle], project, force=True).warnings
    assert "from a folder" in warning


def test_the_command_says_what_is_where(
    bundle: Path, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["android", str(bundle), "-o", str(project), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["bundles"] == {bundle.name: told["bytes"]}
    assert main(["android", str(bundle), "-o", str(project)]) != 0
    assert "--force" in capfd.readouterr().err


def test_the_core_does_the_tasks_that_are_let_through() -> None:
    text = (DEMO / "core/src/main/kotlin/org/edgetfm/core/Tasks.kt").read_text()
    table = text[text.index("companion object") : text.index("The tasks that this app does")]
    named = set(re.findall(r'"([a-z-]+)"(?: to|\n)', table))
    assert named == set(TASKS)

"""The checks that `make android` does without a compiler: each finds what it is there to find."""

import hashlib
import importlib
import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

CI = Callable[[str], ModuleType]
DEMO = Path(__file__).resolve().parents[2] / "android_demo"

TELEMETRY = """<manifest xmlns:android="http://schemas.android.com/apk/res/android">
    <uses-sdk android:minSdkVersion="24" />
    <uses-permission android:name="android.permission.ACCESS_NETWORK_STATE" />
    <uses-permission android:name="android.permission.INTERNET" />
    <application>
        <provider android:name="ai.onnxruntime.TelemetryInitializer" />
    </application>
</manifest>"""
"""What a library brings that was built with telemetry."""


@pytest.fixture
def ci(monkeypatch: pytest.MonkeyPatch) -> CI:
    """The modules of android_demo/ci, which is run as a folder and not installed."""
    monkeypatch.syspath_prepend(str(DEMO / "ci"))

    def module(name: str) -> ModuleType:
        return importlib.import_module(name)

    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for file in DEMO.rglob("*"):
        kept = file.suffix in (
            ".kts",
            ".toml",
            ".xml",
            ".properties",
            ".jar",
            ".bat",
        ) or file.name in ("EdgeSession.kt", "gradlew")
        if file.is_file() and kept:
            copy = tmp_path / file.relative_to(DEMO)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    return tmp_path


def test_the_gradle_files_hold_together(ci: CI, project: Path) -> None:
    assert ci("gradle").problems(project) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("app/build.gradle.kts", "libs.plugins.android", "libs.plugins.droid", "catalog has not"),
        ("app/build.gradle.kts", "minSdk = 24", "minSdk = 26", "no minSdk = 24"),
        ("app/build.gradle.kts", '"x86_64"', '"x86"', "other ABIs"),
        ("gradle/libs.versions.toml", 'junit = "4.13.2"', 'other = "1"', "no version junit"),
        ("gradle/libs.versions.toml", 'onnxruntime = "1.2', 'onnxruntime = "1.3', "in the pins"),
        ("gradlew", "exec ", "echo ", "gradlew is not what Gradle"),
        ("gradle/wrapper/gradle-wrapper.properties", "9.4.1", "9.4.0", "no gradle-9.4.1-bin.zip"),
        ("settings.gradle.kts", '":core"', '":heart"', "no module heart"),
        (
            "app/src/main/AndroidManifest.xml",
            "RECORD_AUDIO",
            "CAMERA",
            "asks for android.permission.C",
        ),
        (
            "app/src/main/AndroidManifest.xml",
            "ai.onnxruntime.T",
            "an.T",
            "not remove ai.onnxruntime.T",
        ),
    ],
)
def test_what_does_not_hold_is_named(
    ci: CI, project: Path, file: str, old: str, new: str, said: str
) -> None:
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new))
    assert any(said in problem for problem in ci("gradle").problems(project))


@pytest.mark.parametrize("flavor", ["standard", "qnn"])
def test_a_flavour_has_its_own_and_not_what_is_removed(ci: CI, flavor: str, tmp_path: Path) -> None:
    manifest, sources = ci("manifest"), DEMO / "app" / "src"
    files = [sources / name / "AndroidManifest.xml" for name in ("main", flavor)]
    merged = manifest.merged(*files, TELEMETRY, "a.b", {"debuggable": "true"})
    (tmp_path / "merged.xml").write_text(merged)
    text = (tmp_path / "merged.xml").read_text()
    assert not [name for name in manifest.UNWANTED if name in text]
    assert manifest.removed(files[0]) == set(manifest.UNWANTED)
    assert manifest.asked(tmp_path / "merged.xml") == {"android.permission.RECORD_AUDIO"}
    assert 'package="a.b"' in text
    assert 'android:debuggable="true"' in text
    assert ("libcdsprpc.so" in text) == (flavor == "qnn")


def test_what_a_library_or_a_flavour_asks_for_is_seen(ci: CI, tmp_path: Path) -> None:
    manifest, main = ci("manifest"), DEMO / "app" / "src" / "main" / "AndroidManifest.xml"
    assert manifest.brought(TELEMETRY, main) == []
    more = TELEMETRY.replace("permission.INTERNET", "permission.CAMERA").replace("Init", "Other")
    said = manifest.brought(more, main)
    assert [problem.split()[4:6] for problem in said] == [
        ["provider", "ai.onnxruntime.TelemetryOtherializer"],
        ["uses-permission", "android.permission.CAMERA"],
    ]
    (tmp_path / "flavor.xml").write_text(TELEMETRY.replace("permission.INTERNET", "permission.NFC"))
    text = manifest.merged(main, tmp_path / "flavor.xml", more, "a.b", {})
    (tmp_path / "merged.xml").write_text(text)
    wanted = {f"android.permission.{name}" for name in ("RECORD_AUDIO", "CAMERA", "NFC")}
    assert manifest.asked(tmp_path / "merged.xml") == wanted
    with zipfile.ZipFile(tmp_path / "library.aar", "w") as archive:
        archive.writestr("AndroidManifest.xml", more)
    assert manifest.of_library(tmp_path / "library.aar") == more


def test_what_is_mapped_lies_uncompressed_and_aligned(ci: CI) -> None:
    apk, checks, held = ci("apk"), ci("apk_checks"), io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        apk._put(archive, "a.txt", b"x" * 77)
        apk._put(archive, "lib/arm64-v8a/liba.so", b"library")
        apk._put(archive, "assets/model.onnx", b"weights" * 9)
    with zipfile.ZipFile(held) as archive:
        library, model = map(archive.getinfo, archive.namelist()[1:])
        assert library.compress_type == model.compress_type == zipfile.ZIP_STORED
        assert checks._start(archive, library) % 16384 == 0
        assert checks._start(archive, model) % 4 == 0
        start = checks._start(archive, library)
        assert held.getvalue()[start : start + 7] == b"library"
        assert archive.testzip() is None


def test_a_download_with_another_hash_is_not_kept(
    ci: CI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, pins = ci("tools"), ci("pins")

    def fetched(pin: object, place: Path) -> Path:
        with zipfile.ZipFile(place / "package.whl", "w") as archive:
            for name, data in (("kept/file", b"content"), ("other", b"not wanted")):
                archive.writestr(zipfile.ZipInfo(name), data)  # without the time of day
        return place / "package.whl"

    monkeypatch.setattr(tools, "_fetch", fetched)
    wrong = pins.Pin("pip", "package", "1", "0" * 64, ("kept/",))
    with pytest.raises(tools.Missing, match="expected 0000"):
        tools._bring(wrong, tmp_path / wrong.place)
    assert list(tmp_path.iterdir()) == []

    (tmp_path / "probe").mkdir()
    digest = hashlib.sha256(fetched(wrong, tmp_path / "probe").read_bytes()).hexdigest()
    right = pins.Pin("pip", "package", "1", digest, ("kept/",))
    tools._bring(right, tmp_path / right.place)
    assert (tmp_path / right.place / "kept" / "file").read_bytes() == b"content"
    assert not (tmp_path / right.place / "other").exists()
    assert right.place != wrong.place


def test_stubs_have_what_the_app_names_and_its_ancestors(ci: CI, tmp_path: Path) -> None:
    folder = tmp_path / "android-stubs" / "app"
    folder.mkdir(parents=True)
    (folder / "__init__.pyi").write_text(
        "class Base(java.lang.Object):\n"
        "    def findViewById(self, id: int | java.jint | java.lang.Integer, /) -> Other: ...\n"
        "class Screen(Base):\n"
        "    LIMIT: typing.ClassVar[int] = ...\n"
        "    def __init__(self, name: str | java.lang.String, /) -> None: ...\n"
        "    def elapsedRealtime(self) -> int: ...\n"
        "    def other(self, *all: Other) -> java.chaquopy.JavaArrayJFloat: ...\n"
        "class Other(Base):\n"
        "    def hidden(self) -> None: ...\n"
        "class Unused(Base): ...\n"
    )
    files = ci("stubs").write(tmp_path, ["import android.app.Screen\n"], tmp_path / "java")
    java = {file.stem: file.read_text() for file in files}
    assert java.keys() == {"Base", "Screen", "Other", "Stub"}
    assert "<T extends android.view.View> T findViewById(int a0)" in java["Base"]
    assert "class Screen extends android.app.Base" in java["Screen"]
    assert "public static int LIMIT;" in java["Screen"]
    assert "public Screen(String a0)" in java["Screen"]
    assert "public long elapsedRealtime()" in java["Screen"]
    assert "public float[] other(android.app.Other... a0)" in java["Screen"]
    assert "hidden" not in java["Other"]

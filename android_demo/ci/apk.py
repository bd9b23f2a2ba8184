"""The app as an APK: resources linked, classes made dex, libraries and bundles packed, signed."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import kotlin
import manifest
import stubs
from kotlin import PROJECT, Failed
from tools import Tools

SOURCES = PROJECT / "app" / "src"
PACKAGE = "org.edgetfm.demo"
FLAVORS = {"standard": "", "qnn": ".qnn"}
"""The app's flavours, and what each adds to the name of the package."""

LIBRARIES = ("arm64-v8a", "x86_64")
MIN_SDK, TARGET_SDK = 24, 36

PAGE = 16384
"""Libraries lie uncompressed on pages of so many bytes, from which Android maps them."""

AS_THEY_ARE = (".so", ".onnx", ".onnx_data", ".npz", ".arsc")
_ALIGNED = 0xD935
"""Android's own field of a zip entry: how its data is aligned, and as many zeros as that takes."""


@dataclass(frozen=True)
class Compiled:
    """A flavour before it is packed: linked resources with the manifest, and classes."""

    table: Path
    classes: tuple[Path, ...]
    """The jars that go into the APK as dex."""
    framework: Path


def compiled(tools: Tools, core: Path, work: Path) -> dict[str, Compiled]:
    """Every flavour, its Kotlin checked against ONNX Runtime's classes and stubs of Android's."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    stubbed = stubs.write(tools.stubs, _texts(), work / "stubs")
    framework = _jar(_java(stubbed, work / "framework"), work / "android.jar")
    return {name: _flavor(tools, name, core, framework, work / name) for name in FLAVORS}


def _flavor(tools: Tools, name: str, core: Path, framework: Path, work: Path) -> Compiled:
    work.mkdir()
    table, generated = _resources(tools, name, work)
    resources = _jar(_java(generated, work / "classes"), work / "r.jar")
    runtime = tools.aar / "classes.jar"
    app = kotlin.compile(
        tools, kotlin.sources("app/src/main", f"app/src/{name}"),
        [core, runtime, framework, resources], work / "app.jar",
    )  # fmt: skip
    library = tools.kotlin / "kotlin-stdlib.jar"
    return Compiled(table, (app, core, resources, runtime, library), framework)


def packed(tools: Tools, made: Compiled, assets: Path, work: Path) -> Path:
    """app-debug.apk in `work`, signed with a key made for it. `assets` is the folder that ships."""
    dex = _dex(tools, made, work / "dex")
    unsigned = work / "unsigned.apk"
    _pack(made.table, dex, tools.aar / "jni", assets, unsigned)
    return _signed(tools, unsigned, work / "app-debug.apk")


def run(*command: str | Path) -> str:
    """What a command prints; Failed with its complaint if it ends badly."""
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr)[-4000:]
        raise Failed(f"{' '.join(map(str, command[:6]))} ...\n{said}")
    return done.stdout + done.stderr


def _texts() -> list[str]:
    return [file.read_text(encoding="utf-8") for file in kotlin.sources("app")]


def _resources(tools: Tools, flavor: str, work: Path) -> tuple[Path, list[Path]]:
    """The linked resources and manifest, and the Java source of R."""
    linked, java, manifest_file = work / "linked.apk", work / "generated", work / "manifest.xml"
    flat = []
    for part in ("main", flavor):
        if (SOURCES / part / "res").is_dir():
            flat.append(work / f"{part}.zip")
            run(tools.aapt2, "compile", "--dir", SOURCES / part / "res", "-o", flat[-1])
    unpacked = str(flavor == "qnn").lower()
    text = manifest.merged(
        SOURCES / "main" / "AndroidManifest.xml", SOURCES / flavor / "AndroidManifest.xml",
        manifest.of_library(tools.package), PACKAGE, {"extractNativeLibs": unpacked},
    )  # fmt: skip
    manifest_file.write_text(text, encoding="utf-8")
    run(
        tools.aapt2, "link", "-I", tools.framework, "--manifest", manifest_file, "--java", java,
        "--rename-manifest-package", PACKAGE + FLAVORS[flavor],
        "--min-sdk-version", str(MIN_SDK), "--target-sdk-version", str(TARGET_SDK),
        "--version-code", "1", "--version-name", "0.1.0", "--debug-mode", "-o", linked,
        "--auto-add-overlay", flat[0], *(word for more in flat[1:] for word in ("-R", more)),
    )  # fmt: skip
    return linked, sorted(java.rglob("*.java"))


def _java(files: Sequence[Path], classes: Path) -> Path:
    """The folder of the class files of Java sources."""
    run(
        "javac", "-nowarn", "-Xlint:-options", "-proc:none", "--release", "8", "-d", classes, *files
    )
    return classes


def _jar(classes: Path, into: Path) -> Path:
    with zipfile.ZipFile(into, "w") as archive:
        for file in sorted(classes.rglob("*.class")):
            archive.write(file, file.relative_to(classes).as_posix())
    return into


def _dex(tools: Tools, made: Compiled, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    java = Path(run("java", "-XshowSettings:properties", "-version").split("java.home = ")[1])
    home = str(java).splitlines()[0].strip()
    run(
        "java", "-XX:+UseSerialGC", "-Xmx1200m", "-cp", tools.d8, "com.android.tools.r8.D8",
        "--debug", "--min-api", str(MIN_SDK), "--lib", made.framework, "--lib", home,
        "--output", folder, *made.classes,
    )  # fmt: skip
    return folder


def _pack(table: Path, dex: Path, jni: Path, assets: Path, into: Path) -> None:
    with zipfile.ZipFile(into, "w") as archive:
        with zipfile.ZipFile(table) as linked:
            for name in linked.namelist():
                _put(archive, name, linked.read(name))
        for file in sorted(dex.glob("*.dex")):
            _put(archive, file.name, file.read_bytes())
        for abi in LIBRARIES:
            for file in sorted((jni / abi).glob("*.so")):
                _put(archive, f"lib/{abi}/{file.name}", file.read_bytes())
        for file in sorted(f for f in assets.rglob("*") if f.is_file()):
            _put(archive, f"assets/{file.relative_to(assets).as_posix()}", file.read_bytes())


def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """One entry, the same for the same bytes; what is mapped lies uncompressed and aligned."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    stored = name.endswith(AS_THEY_ARE)
    entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    if stored:
        step = PAGE if name.endswith(".so") else 4
        assert archive.fp is not None
        start = archive.fp.tell() + 30 + len(name.encode()) + 6
        zeros = -start % step
        size = (2 + zeros).to_bytes(2, "little")
        entry.extra = (
            _ALIGNED.to_bytes(2, "little") + size + step.to_bytes(2, "little") + bytes(zeros)
        )
    archive.writestr(entry, data)


def _signed(tools: Tools, unsigned: Path, into: Path) -> Path:
    """Signed as a debug build is, by a key that nobody keeps."""
    key = unsigned.with_name("debug.keystore")
    run(
        "keytool", "-genkeypair", "-keystore", key, "-storepass", "android", "-keypass", "android",
        "-alias", "debug", "-keyalg", "RSA", "-keysize", "2048", "-validity", "10000",
        "-dname", "CN=edgetfm debug", "-storetype", "PKCS12",
    )  # fmt: skip
    run(
        "java", "-jar", tools.apksigner, "sign", "--min-sdk-version", str(MIN_SDK), "--ks", key,
        "--ks-pass", "pass:android", "--out", into, unsigned,
    )  # fmt: skip
    return into

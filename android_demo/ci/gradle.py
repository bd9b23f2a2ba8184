"""The Gradle files read without Gradle: every alias resolves, and versions equal the pins."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import manifest
from pins import GRADLE, GRADLE_SHA256, KOTLIN, ONNXRUNTIME

WANTED = {"minSdk": "24", "targetSdk": "36", "compileSdk": "36"}
ABIS = {"arm64-v8a", "x86_64"}
PERMISSIONS = {"android.permission.RECORD_AUDIO"}


WRAPPER = {
    "gradlew": "aed171fb114f82e6eaea4970a245a200e0582a7dcc8ec0891ca41b6e4a62b754",
    "gradlew.bat": "9ca26d733ada3a45f27b2151288f54e75c9f95b287d1f82ef942ec5cc2d4f006",
    "gradle/wrapper/gradle-wrapper.jar": (
        "55243ef57851f12b070ad14f7f5bb8302daceeebc5bce5ece5fa6edb23e1145c"
    ),
}
"""The sha256 of the wrapper that Gradle 9.4.1 writes, with line ends as on Linux."""


def problems(project: Path) -> list[str]:
    """What is wrong with the project's build files; [] if nothing is."""
    catalog = tomllib.loads((project / "gradle" / "libs.versions.toml").read_text())
    files = sorted(project.rglob("*.gradle.kts"))
    text = {f.relative_to(project).as_posix(): f.read_text() for f in files}
    return [
        *_aliases(catalog, text),
        *_references(catalog),
        *_versions(catalog, project),
        *_modules(text, project),
        *_wrapper(project),
        *_app(text["app/build.gradle.kts"], project),
    ]


def _aliases(catalog: dict[str, dict[str, object]], text: dict[str, str]) -> list[str]:
    names = {f"libs.{_dotted(n)}" for n in catalog["libraries"]}
    names |= {f"libs.plugins.{_dotted(n)}" for n in catalog["plugins"]}
    used = {
        (file, alias)
        for file, content in text.items()
        for alias in re.findall(r"\blibs(?:\.[a-z]\w*)+", content)
    }
    unknown = [f"{file} names {alias}, which the catalog has not" for file, alias in used - {
        (file, alias) for file, alias in used if alias in names
    }]  # fmt: skip
    idle = names - {alias for _, alias in used}
    return sorted(unknown) + sorted(f"nobody uses {alias} of the catalog" for alias in idle)


def _dotted(name: str) -> str:
    return name.replace("-", ".")


def _references(catalog: dict[str, dict[str, object]]) -> list[str]:
    held = [*catalog["libraries"].values(), *catalog["plugins"].values()]
    named = {str(v["version"]["ref"]) for v in held}  # type: ignore[index]
    return [
        *(f"the catalog has no version {n}" for n in sorted(named - catalog["versions"].keys())),
        *(f"nobody uses the version {n}" for n in sorted(catalog["versions"].keys() - named)),
    ]


def _versions(catalog: dict[str, dict[str, object]], project: Path) -> list[str]:
    versions = catalog["versions"]
    wanted = {"kotlin": KOTLIN, "onnxruntime": ONNXRUNTIME}
    found = [
        f"{name} is {versions.get(name)} in the catalog, {pin} in the pins"
        for name, pin in wanted.items()
        if versions.get(name) != pin
    ]
    session = (project / "core/src/main/kotlin/org/edgetfm/core/EdgeSession.kt").read_text()
    if f'RUNTIME = "{ONNXRUNTIME}"' not in session:
        found.append(f"EdgeSession.kt names another ONNX Runtime than {ONNXRUNTIME}")
    return found


def _modules(text: dict[str, str], project: Path) -> list[str]:
    modules = re.findall(r'":([a-z]+)"', text["settings.gradle.kts"])
    return [f"there is no module {m}" for m in modules if not (project / m).is_dir()]


def _wrapper(project: Path) -> list[str]:
    """The wrapper runs on the computers of all who build: it is Gradle's own, byte for byte."""
    found = []
    for name, sha256 in WRAPPER.items():
        data = (project / name).read_bytes()
        if name.endswith(".bat"):
            data = data.replace(b"\r\n", b"\n")
        if hashlib.sha256(data).hexdigest() != sha256:
            found.append(f"{name} is not what Gradle {GRADLE} writes")
    properties = (project / "gradle" / "wrapper" / "gradle-wrapper.properties").read_text()
    wanted = (f"gradle-{GRADLE}-bin.zip", f"distributionSha256Sum={GRADLE_SHA256}")
    return found + [f"gradle-wrapper.properties has no {w}" for w in wanted if w not in properties]


def _app(text: str, project: Path) -> list[str]:
    found = [
        f"app has no {name} = {value}"
        for name, value in WANTED.items()
        if not re.search(rf"\b{name} = {value}\b", text)
    ]
    if set(re.findall(r'"(arm64-v8a|armeabi-v7a|x86_64|x86)"', text)) != ABIS:
        found.append(f"app filters other ABIs than {', '.join(sorted(ABIS))}")
    main = project / "app" / "src" / "main" / "AndroidManifest.xml"
    found += [f"the app asks for {name}" for name in sorted(manifest.asked(main) - PERMISSIONS)]
    kept = sorted(set(manifest.UNWANTED) - manifest.removed(main))
    return found + [f"the app does not remove {name}, which libraries bring" for name in kept]

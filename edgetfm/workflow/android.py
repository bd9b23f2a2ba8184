"""Bundles put where an Android app finds them: its assets."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetfm import files
from edgetfm.bundle import Bundle, obstacle, open_bundle
from edgetfm.errors import InputError, OutputError, listed
from edgetfm.folders import NewFolder
from edgetfm.manifest import MANIFEST
from edgetfm.search.goal import AnyPath
from edgetfm.stages import MODEL

PROJECT_MARK = "settings.gradle.kts"
ASSETS = Path("app", "src", "main", "assets")
INSIDE = "bundles"
"""The folder of the assets that holds them, with a list of their names."""

LIST = "bundles.json"
_TAKEN = (LIST, f"{LIST}.part")
LONGEST_NAME = 200
"""Of a bundle: file systems take 255 bytes, of which a folder that is being made needs more."""

MOST_BYTES = 150_000_000
"""What a store takes of an app's assets; a larger model is opened from a folder on the phone."""

DEMO = Path(__file__).resolve().parents[2] / "android_demo"
"""The app of a checkout: packages of edgetfm come without it."""

_COPIED = ("app", "core", "gradle", "gradlew", "gradlew.bat", "build.gradle.kts",
           "settings.gradle.kts", "gradle.properties", ".gitignore", ".gitattributes")  # fmt: skip
ABIS = frozenset({"arm64-v8a", "x86_64"})
"""Those of phones, and of emulators on a computer: what the app's library was tested for."""

_HEARS = "automatic-speech-recognition"
TASKS = (
    "text-classification",
    "feature-extraction",
    "image-classification",
    "image-feature-extraction",
    "audio-classification",
    "text-generation",
    _HEARS,
)
"""What android_demo's core does; Tasks.kt has the same list, and a test compares them."""

_UNFIT = {"fp16": "few operators of ONNX Runtime's CPU provider know fp16: use int8 or fp32"}


@dataclass(frozen=True)
class Placed:
    """What was put where: the folder, and for each bundle its name and bytes."""

    assets: Path
    bundles: dict[str, int]
    warnings: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of all bundles together."""
        return sum(self.bundles.values())


def place_bundles(bundles: Sequence[AnyPath], output: AnyPath, *, force: bool = False) -> Placed:
    """Copy checked bundles into an Android app's assets, as `bundles/NAME`, with a list of them.

    output: a Gradle project, whose app/src/main/assets is used, or an assets folder; what is not
    there becomes a project of its own, a copy of the demo; inside a project, only a folder called
    assets is made.
    Raises BundleError for a damaged bundle and InputError for one that the app cannot run.
    """
    opened = [open_bundle(path) for path in bundles]
    warnings = _checked(opened)
    target = Path(output)
    if _is_new_app(target):
        _make_app(target, opened)
        assets = target / ASSETS
    else:
        assets = _assets_of(target) if target.exists() else target
        _place(opened, assets / INSIDE, force)
    warnings += _of_abis(target)
    return Placed(assets, {_name(b.root): _size(b) for b in opened}, warnings)


def _checked(bundles: Sequence[Bundle]) -> tuple[str, ...]:
    """Warnings; an InputError that lists every bundle which the app cannot run."""
    problems, warnings = _of_names([b.root for b in bundles]), []
    for bundle in bundles:
        name, manifest = _name(bundle.root), bundle.manifest
        if manifest.task not in TASKS:
            problems.append(
                f"{name}: the app does not do {manifest.task}; it does {', '.join(TASKS)}"
            )
        elif (MODEL in manifest.components) == (manifest.task == _HEARS):
            graphs = "an encoder and a decoder" if manifest.task == _HEARS else "one graph"
            problems.append(f"{name}: the app does {manifest.task} with {graphs}, it has others")
        if _size(bundle) > MOST_BYTES:
            warnings.append(
                f"{name} has {_size(bundle) / 1e6:.0f} MB: stores take {MOST_BYTES // 10**6} MB of "
                "assets. Open it on the phone from a folder instead"
            )
        if manifest.default in _UNFIT:
            warnings.append(f"{name} is {manifest.default}: {_UNFIT[manifest.default]}")
    if problems:
        raise InputError(listed(problems))
    return tuple(warnings)


def _of_names(roots: Sequence[Path]) -> list[str]:
    """What keeps bundles from standing beside each other under their names."""
    called = defaultdict(list)
    for root in roots:
        called[_name(root)].append(str(root))
    problems = []
    for name, found in called.items():
        if len(found) > 1:
            problems.append(
                f"two bundles are called {name}: {' and '.join(found)}: rename a folder"
            )
        if name.lower() in _TAKEN:
            problems.append(f"{found[0]}: {name} is the list of bundles: rename the folder")
        if len(name) > LONGEST_NAME:
            problems.append(
                f"{found[0]}: a name may have {LONGEST_NAME} characters, this one has {len(name)}: "
                "rename the folder"
            )
    return problems


def _size(bundle: Bundle) -> int:
    return sum(entry.bytes for entry in bundle.manifest.files.values())


def _name(root: Path) -> str:
    """The name of a bundle's folder, as an asset may be called: packagers skip `.x` and `_x`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", root.resolve().name).strip("-._") or "bundle"


def _is_new_app(target: Path) -> bool:
    """Whether it becomes a copy of the demo, never one in another project; there, assets are made.

    OutputError for what is not there and can be neither.
    """
    if target.exists():
        return False
    around = next((p for p in target.resolve().parents if _is_project(p)), None)
    is_assets = target.name == ASSETS.name
    if around is None and is_assets:
        raise OutputError(
            f"{target} is not there, and no Gradle project is around it: name the project, or make "
            "the folder first"
        )
    if around is not None and not is_assets:
        raise OutputError(
            f"{target} is not there and lies in the Gradle project {around}: name that project, "
            "one of its assets folders, or a new folder outside of it for an app of its own"
        )
    return around is None


def _is_project(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (PROJECT_MARK, "settings.gradle"))


def _make_app(target: Path, bundles: Sequence[Bundle]) -> None:
    """A project of its own, to be opened in Android Studio: with its bundles, or not at all."""
    if not DEMO.is_dir():
        raise InputError(
            f"{target} does not exist: name an Android project or its assets folder (only a "
            "checkout of edgetfm has an app to copy)"
        )
    with NewFolder(target) as made:
        for name in _COPIED:
            if (DEMO / name).is_dir():
                left_out = shutil.ignore_patterns("build", "assets")
                try:
                    shutil.copytree(DEMO / name, made.path / name, ignore=left_out)
                except shutil.Error as error:  # of all that failed: its first reason says enough
                    raise OutputError(f"could not write {target}: {error.args[0][0][2]}") from error
            else:
                shutil.copy2(DEMO / name, made.path / name)
        folder = made.path / ASSETS / INSIDE
        for bundle in bundles:
            _copy(bundle, folder / _name(bundle.root))
        _list(folder)
        made.commit(replace=False)


_COMMENT = re.compile(
    r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|//[^\n]*|/\*.*?\*/""", re.DOTALL
)
"""Of a Gradle script; or, as its group, a string, which may hold the beginning of one."""

_FILTER = re.compile(
    r"""abiFilters[ \t\w.+=]*(?:[(\[][ \t\w.]*\s*)*((?:["'][^"'\n]*["'](?:\s*,\s*)?)+)"""
)
"""What a Gradle script's filter names: `+= "a"`, `'a', 'b'`, `.addAll(listOf("a", "b"))`."""


def _of_abis(target: Path) -> tuple[str, ...]:
    """What a project's filter of ABIs means for its bundles; () if that cannot be read."""
    scripts = [target / "app" / name for name in ("build.gradle.kts", "build.gradle")]
    texts = (s.read_text(encoding="utf-8", errors="replace") for s in scripts if s.is_file())
    text = _COMMENT.sub(lambda match: match[1] or " ", "".join(texts))
    if not text:
        return ()
    built = set(re.findall(r"[\"'](arm64-v8a|armeabi-v7a|x86_64|x86|riscv64)[\"']", text))
    for names in _FILTER.findall(text):  # with those that nobody knows, and the misspelt
        built.update(re.findall(r"[\"']([^\"'\n]*)[\"']", names))
    if not built:
        return ("the project filters no ABIs: its app carries ONNX Runtime once for each of four",)
    found = [] if "arm64-v8a" in built else ["the project does not build for phones' arm64-v8a"]
    if built - ABIS:
        names = ", ".join(sorted(built - ABIS))
        found.append(f"the project builds for {names}: the app's library was never tested there")
    return tuple(found)


def _assets_of(target: Path) -> Path:
    if _is_project(target):
        return target / ASSETS
    if target.is_dir() and target.name == "assets":
        return target
    raise OutputError(
        f"{target} is neither a Gradle project (it has no {PROJECT_MARK}) nor a folder called "
        "assets: it is left alone"
    )


def _place(bundles: Sequence[Bundle], folder: Path, force: bool) -> None:
    """Each into a folder of its own, and all that then are there into the list."""
    places = {folder / _name(bundle.root): bundle for bundle in bundles}
    _check_free(places, force)
    try:
        for place, bundle in places.items():
            with NewFolder(place) as made:
                _copy(bundle, made.path)
                _check_free([place], force)  # something may have appeared since
                made.commit(replace=force)
    except BaseException:
        # What came before it is there, so it is listed; of two errors the first counts.
        with contextlib.suppress(OSError, OutputError):
            _list(folder)
        raise
    _list(folder)


def _check_free(places: Iterable[Path], force: bool) -> None:
    """OutputError with all that is in the way."""
    found = [said for place in places if (said := obstacle(place, force=force)) is not None]
    if found:
        raise OutputError(listed(found))


def _copy(bundle: Bundle, folder: Path) -> None:
    """The manifest and the files that it lists: evidence stays at home."""
    for name in (MANIFEST, *bundle.manifest.files):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path(name), file)


def _list(folder: Path) -> None:
    """bundles.json: Android lists assets slowly, and not at all inside some folders."""
    made = (p.name for p in folder.iterdir() if (p / MANIFEST).is_file())
    names = sorted(name for name in made if not name.startswith("."))  # those are being made
    files.write_atomic(folder / LIST, (json.dumps(names, indent=2) + "\n").encode())

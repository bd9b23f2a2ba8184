"""The folder that ships: its manifest, its hashes, and the only way it is written and opened."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgetfm import files
from edgetfm.errors import BundleError, InputError, OutputError, listed
from edgetfm.signature import Signature
from edgetfm.tasks import TASKS

SCHEMA = 1
MANIFEST = "edgetfm.json"
EVIDENCE = ("parity.json", "report.html", "README.md")
"""What may grow after the bundle is made, and so is not hashed."""

SUFFIXES = {"fp32": "", "fp16": "_fp16", "int8": "_int8", "q4": "_q4"}
"""Precision -> the suffix by which Transformers.js finds the file."""


@dataclass(frozen=True)
class Variant:
    """One precision of a graph: its file, its external data if any, and how it was made."""

    file: str
    data: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Component:
    """One graph of the model in one or more precisions. Encoders have one, called 'model'."""

    signature: Signature
    variants: dict[str, Variant]


@dataclass(frozen=True)
class FileEntry:
    """What a file must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The content of edgetfm.json.

    source: kind, name and hash of what was exported; route: `native` or `adapter`.
    preprocessing: {"tokenizer": {...}} or {"image": {...}}, what edgetfm.runtime needs to make
    the inputs. session: onnxruntime settings chosen by measuring, for anyone to use:
    {"disabled_optimizers": [...], "config_entries": {...}}.
    """

    task: str
    family: str
    route: str
    default: str
    components: dict[str, Component]
    source: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    session: dict[str, Any] = field(default_factory=dict)
    budget: str = ""
    calibration: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    licence: str | None = None
    files: dict[str, FileEntry] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The form on disk."""
        data: dict[str, Any] = {"schema": SCHEMA}
        for name in self.__dataclass_fields__:
            data[name] = getattr(self, name)
        data["components"] = {
            name: {
                "signature": c.signature.to_json(),
                "variants": {p: asdict(v) for p, v in c.variants.items()},
            }
            for name, c in self.components.items()
        }
        data["files"] = {name: asdict(entry) for name, entry in sorted(self.files.items())}
        data["labels"] = list(self.labels)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; a BundleError says what is wrong."""
        schema = data.get("schema") if isinstance(data, Mapping) else None
        if not isinstance(schema, int) or schema < 1:
            raise BundleError(f"{MANIFEST} has no valid 'schema' number: this is not a bundle")
        if schema > SCHEMA:
            raise BundleError(
                f"the bundle has schema {schema}, this edgetfm reads up to {SCHEMA}: upgrade it"
            )
        try:
            values = {k: data[k] for k in cls.__dataclass_fields__ if k in data}
            values["components"] = {
                str(name): Component(
                    Signature.from_json(c["signature"]),
                    {str(p): Variant(**v) for p, v in c["variants"].items()},
                )
                for name, c in data["components"].items()
            }
            values["files"] = {
                str(k): FileEntry(str(v["sha256"]), int(v["bytes"]))
                for k, v in data["files"].items()
            }
            values["labels"] = tuple(map(str, data.get("labels", ())))
            manifest = cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"{MANIFEST} is malformed: {type(error).__name__} {error}") from error
        manifest._validate()
        return manifest

    def _validate(self) -> None:
        problems = []
        if self.task not in TASKS:
            problems.append(f"unknown task '{self.task}'")
        if not self.components:
            problems.append("no components")
        for name, component in self.components.items():
            if self.default not in component.variants:
                problems.append(f"{name} has no variant '{self.default}', which is the default")
            for variant in component.variants.values():
                wanted = (variant.file,) if variant.data is None else (variant.file, variant.data)
                problems += [
                    f"{f} is not in the list of files" for f in wanted if f not in self.files
                ]
        if problems:
            raise BundleError(f"{MANIFEST} is malformed:\n{listed(problems)}")


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk that was checked."""

    root: Path
    manifest: Manifest

    def path(self, relative: str) -> Path:
        """A file of the bundle."""
        return files.inside(self.root, relative)

    def variant(self, precision: str | None = None, component: str = "model") -> Variant:
        """The variant of this precision, the default one if none is named."""
        if component not in self.manifest.components:
            raise InputError(
                f"no component '{component}'; there are {', '.join(self.manifest.components)}"
            )
        variants = self.manifest.components[component].variants
        wanted = precision or self.manifest.default
        if wanted not in variants:
            raise InputError(f"no variant '{wanted}' in {self.root}; it has {', '.join(variants)}")
        return variants[wanted]

    def variant_bytes(self, precision: str | None = None, component: str = "model") -> int:
        """The size of a variant's graph and weights."""
        variant = self.variant(precision, component)
        entries = self.manifest.files
        return entries[variant.file].bytes + (entries[variant.data].bytes if variant.data else 0)


def open_bundle(path: str | os.PathLike[str], *, check_hashes: bool = True) -> Bundle:
    """The bundle in the folder `path`.

    Raises BundleError if it is absent, damaged, tampered with or of a newer schema.
    """
    root = Path(path)
    _finish_interrupted_swap(root)
    if not root.is_dir():
        raise BundleError(f"no bundle at {root}: the folder does not exist")
    if not (root / MANIFEST).is_file():
        raise BundleError(f"no bundle at {root}: it has no {MANIFEST}")
    try:
        data = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{root / MANIFEST} is not JSON: {error}") from error
    manifest = Manifest.from_json(data)
    problems = []
    for name, entry in manifest.files.items():
        try:
            file = files.inside(root, name)
        except InputError as error:
            raise BundleError(f"{MANIFEST}: {error}") from error
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif file.stat().st_size != entry.bytes:
            problems.append(f"{name} has {file.stat().st_size} bytes, expected {entry.bytes}")
        elif check_hashes and files.sha256(file) != entry.sha256:
            problems.append(f"{name} was changed: its sha256 is not the one in {MANIFEST}")
    if problems:
        raise BundleError(f"the bundle {root} is damaged:\n{listed(problems)}")
    return Bundle(root, manifest)


class BundleWriter:
    """A bundle being made in a sibling folder, put in place by `commit` or not at all.

    An existing bundle is replaced only with `force`, and any other folder that is not empty
    never. Use as a context manager.
    """

    def __init__(self, target: str | os.PathLike[str], *, force: bool = False) -> None:
        self.target = Path(target)
        if self.target.name in ("", ".", ".."):
            self.target = self.target.resolve()
        self._entries: dict[str, FileEntry] = {}
        self.staging = self.target.parent / f".{self.target.name}.{os.getpid()}.partial"
        _finish_interrupted_swap(self.target)
        self._check_target(force)

    def _check_target(self, force: bool) -> None:
        target = self.target
        if not target.exists() and not target.is_symlink():
            return
        if not target.is_dir() or target.is_symlink():
            raise OutputError(f"{target} exists and is not a folder")
        if not any(target.iterdir()):
            return
        if not (target / MANIFEST).is_file():
            raise OutputError(
                f"{target} holds files but is not a bundle: it is left alone, choose another output"
            )
        if not force:
            raise OutputError(f"{target} exists: choose another output, or replace it with --force")

    def __enter__(self) -> Self:
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(self.target)
            self.staging.mkdir()
        except OSError as error:
            raise OutputError(f"cannot write to {self.target.parent}: {error.strerror}") from error
        return self

    def path(self, relative: str) -> Path:
        """Where a file of the bundle is while it is being made."""
        return files.inside(self.staging, relative)

    def create(self, relative: str) -> files.NewFile:
        """A new file of the bundle, to be written through a `with` and then `add`ed."""
        return files.NewFile(self.path(relative))

    def add(self, relative: str, file: files.NewFile) -> None:
        """Enter a file that was written through `create` into the manifest's list."""
        self._entries[relative] = FileEntry(file.sha256, file.bytes)

    def write(self, relative: str, data: bytes | str) -> None:
        """Write a whole file; evidence is written but not hashed into the manifest."""
        with self.create(relative) as file:
            file.write(data.encode() if isinstance(data, str) else data)
        if relative not in EVIDENCE:
            self.add(relative, file)

    def copy(self, source: Path, relative: str) -> None:
        """Copy a file in, by pieces."""
        with source.open("rb") as old, self.create(relative) as new:
            while piece := old.read(1 << 24):
                new.write(piece)
        self.add(relative, new)

    def discard(self, relative: str) -> None:
        """Take a file out again."""
        self._entries.pop(relative, None)
        self.path(relative).unlink(missing_ok=True)

    @property
    def entries(self) -> dict[str, FileEntry]:
        """What was written so far."""
        return dict(self._entries)

    def commit(self, manifest: Manifest) -> Bundle:
        """Write the manifest and put the bundle in place; the old one survives until then."""
        final = Manifest.from_json(replace(manifest, files=self._entries).to_json())
        self.write(MANIFEST, json.dumps(final.to_json(), indent=2, ensure_ascii=False) + "\n")
        for folder in {self.staging, *(self.path(name).parent for name in self._entries)}:
            files.sync_folder(folder)
        _put_in_place(self.staging, self.target)
        return Bundle(self.target, final)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise OutputError(f"could not write {self.target}: {reason}") from error


# --- the swap -----------------------------------------------------------------------------------
# Linux exchanges the two folders in one step. Elsewhere there is a moment between two renames in
# which `target` is absent: 'NAME.new' is complete by then, and whoever opens the bundle next
# finishes the job.


def _aside(target: Path, what: str) -> Path:
    return target.parent / f".{target.name}.{what}"


def _put_in_place(staging: Path, target: Path) -> None:
    if not target.exists() or not any(target.iterdir()):
        if target.exists():
            target.rmdir()
        files.rename(staging, target)
    elif files.exchange(staging, target):
        files.remove_tree(staging)
    else:
        new, old = _aside(target, "new"), _aside(target, "old")
        files.rename(staging, new)
        files.rename(target, old)
        files.rename(new, target)
        files.remove_tree(old)


def _finish_interrupted_swap(target: Path) -> None:
    new, old = _aside(target, "new"), _aside(target, "old")
    if not target.exists():
        for whole in (new, old):
            if (whole / MANIFEST).is_file():
                files.rename(whole, target)
                break


def _remove_abandoned(target: Path) -> None:
    """Remove what killed processes left beside `target`; those still at work are let be."""
    for left in target.parent.glob(f".{target.name}.*.partial"):
        owner = left.name.removesuffix(".partial").rpartition(".")[2]
        if owner.isdigit() and int(owner) != os.getpid() and not _alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    if target.exists():
        for what in ("new", "old"):
            shutil.rmtree(_aside(target, what), ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

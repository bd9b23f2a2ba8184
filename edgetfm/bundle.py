"""The folder that ships: the only way it is written and opened."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from edgetfm import files
from edgetfm.errors import BundleError, InputError, OutputError, listed
from edgetfm.folders import NewFolder, finish_interrupted_swap, holds_files
from edgetfm.manifest import EVIDENCE, MANIFEST, FileEntry, Manifest, Variant
from edgetfm.neighbours import adapted
from edgetfm.stages import Graph, graph_of


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk that was checked."""

    root: Path
    manifest: Manifest

    def path(self, relative: str) -> Path:
        """A file of the bundle."""
        return files.inside(self.root, relative)

    def variant(self, precision: str | None = None, component: str | None = None) -> Variant:
        """The variant of this precision, the default one if none is named.

        component: one of several; None is the first.
        """
        component = component or next(iter(self.manifest.components))
        if component not in self.manifest.components:
            raise InputError(
                f"no component '{component}'; there are {', '.join(self.manifest.components)}"
            )
        variants = self.manifest.components[component].variants
        wanted = self.manifest.default if precision is None else precision
        if wanted not in variants:
            raise InputError(f"no variant '{wanted}' in {self.root}; it has {', '.join(variants)}")
        return variants[wanted]

    def graph(self, precision: str | None = None) -> Graph:
        """The file of a variant's graph, or both of an encoder-decoder."""
        names = self.manifest.components
        return graph_of({name: self.path(self.variant(precision, name).file) for name in names})

    def variant_bytes(self, precision: str | None = None, component: str | None = None) -> int:
        """The size of a variant's graph and weights, of all components if none is named."""
        return sum(self.manifest.files[f].bytes for f in self.variant_files(precision, component))

    def variant_files(
        self, precision: str | None = None, component: str | None = None
    ) -> tuple[str, ...]:
        """The files of a variant's graph and weights, of all components if none is named."""
        names = list(self.manifest.components) if component is None else [component]
        variants = [self.variant(precision, name) for name in names]
        return tuple(f for v in variants for f in (v.file, v.data) if f is not None)


def open_bundle(path: str | os.PathLike[str], *, check_hashes: bool = True) -> Bundle:
    """The bundle in the folder `path`.

    Raises BundleError if it is absent, damaged, tampered with or of a newer schema.
    """
    root = Path(path)
    if "\0" in str(root):
        raise BundleError(f"no bundle at {str(root)!r}: a path holds no zero byte")
    try:
        return _open(root, check_hashes)
    except OSError as error:
        raise BundleError(f"the bundle {root} cannot be read: {error}") from error


def _open(root: Path, check_hashes: bool) -> Bundle:
    finish_interrupted_swap(root)
    if not root.is_dir():
        said = "it is a file" if root.exists() else "the folder does not exist"
        raise BundleError(f"no bundle at {root}: {said}")
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


def obstacle(target: Path, *, force: bool) -> str | None:
    """What keeps a bundle from being put there, None if nothing does: an empty folder does not."""
    if not target.exists() and not target.is_symlink():
        return None
    if not target.is_dir() or target.is_symlink():
        return f"{target} exists and is not a folder: it is left alone"
    if not holds_files(target):
        return None
    if not (target / MANIFEST).is_file():
        return f"{target} holds files but is not a bundle: it is left alone, choose another output"
    return None if force else f"{target} exists: choose another output, or replace it with --force"


class BundleWriter:
    """A bundle being made in a sibling folder, put in place by `commit` or not at all.

    An existing bundle is replaced only with `force`, and any other folder that is not empty
    never. Use as a context manager.
    """

    def __init__(self, target: str | os.PathLike[str], *, force: bool = False) -> None:
        self.target = Path(target)
        if self.target.name in ("", ".", ".."):
            self.target = self.target.resolve()
        if not self.target.name:
            raise OutputError(f"cannot write to {self.target}: a bundle is a folder with a name")
        self.force = force
        self._entries: dict[str, FileEntry] = {}
        self._folder = NewFolder(self.target)
        try:
            finish_interrupted_swap(self.target)
            self._check_target()
        except (OSError, ValueError) as error:  # a name that is too long, or holds a zero byte
            raise OutputError(f"cannot write to {self.target!s}: {error}") from error

    @property
    def staging(self) -> Path:
        """The folder in which the bundle is being made."""
        return self._folder.path

    def _check_target(self) -> None:
        found = obstacle(self.target, force=self.force)
        if found is not None:
            raise OutputError(found)

    def __enter__(self) -> Self:
        self._folder.__enter__()
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
        """Write the manifest and put the bundle in place; the old one survives until then.

        What neighbours read besides it is made to say the same (`edgetfm.neighbours`).
        """
        for name, data in adapted(self._content, manifest).items():
            self.write(name, data)
        final = Manifest.from_json(replace(manifest, files=self._entries).to_json())
        self.write(MANIFEST, json.dumps(final.to_json(), indent=2, ensure_ascii=False) + "\n")
        self._check_target()  # it may have appeared since
        self._folder.commit(replace=self.force)
        return Bundle(self.target, final)

    def _content(self, relative: str) -> bytes | None:
        return self.path(relative).read_bytes() if relative in self._entries else None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.__exit__(kind, error, trace)

"""Files written so that an interruption leaves either the old result or the new one, whole.

Every write, fsync and rename of a bundle goes through this module and announces itself before
and after to `hook`, which tests use to kill the process there.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from edgetfm.errors import InputError

hook: Callable[[str], None] | None = None
"""Called with 'before write onnx/model.onnx', 'after rename ...' and so on. None outside tests."""


def _announce(event: str) -> None:
    if hook is not None:
        hook(event)


class NewFile:
    """A file being written: hashes what passes through it and is on disk when closed."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append `data`."""
        _announce(f"before write {self.path.name}")
        size = self._file.write(data)
        _announce(f"after write {self.path.name}")
        self._hash.update(data)
        self.bytes += size
        return size

    def pad_to(self, multiple: int) -> None:
        """Append zeros until the length is a multiple: aligned tensors can be memory-mapped."""
        if self.bytes % multiple:
            self.write(b"\0" * (multiple - self.bytes % multiple))

    @property
    def sha256(self) -> str:
        """The hash of everything written so far, in hex."""
        return self._hash.hexdigest()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._file.flush()
            _announce(f"before fsync {self.path.name}")
            os.fsync(self._file.fileno())
            _announce(f"after fsync {self.path.name}")
        self._file.close()


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`, or leave it as it was."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with NewFile(partial) as file:
            file.write(data)
        rename(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make the entries of a folder durable."""
    _announce(f"before fsync {path.name}")
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    _announce(f"after fsync {path.name}")


def rename(old: Path, new: Path) -> None:
    """Rename and make it durable."""
    _announce(f"before rename {new.name}")
    old.rename(new)
    _announce(f"after rename {new.name}")
    sync_folder(new.parent)


def exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step; False where the system or its file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    _announce(f"before exchange {other.name}")
    # From linux/fcntl.h and linux/fs.h: both paths relative to the working folder, swapped.
    at_cwd, rename_exchange = -100, 2
    paths = (os.fsencode(one.absolute()), os.fsencode(other.absolute()))
    if renameat2(at_cwd, paths[0], at_cwd, paths[1], rename_exchange) != 0:
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            return False
        raise OSError(code, os.strerror(code), str(other))
    _announce(f"after exchange {other.name}")
    sync_folder(other.parent)
    return True


def remove_tree(path: Path) -> None:
    """Remove a folder of ours; absent is fine."""
    if path.exists():
        _announce(f"before remove {path.name}")
        shutil.rmtree(path)
        _announce(f"after remove {path.name}")


def sha256(path: Path) -> str:
    """The hash of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(root: Path, relative: str) -> Path:
    """`root / relative`, or an InputError if that would leave `root`, links followed."""
    pure = PurePosixPath(relative)
    if not relative or pure.is_absolute() or ".." in pure.parts or "\\" in relative:
        raise InputError(f"the path '{relative}' leaves its folder")
    path = root.joinpath(*pure.parts)
    if not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"the path '{relative}' leaves its folder through a link")
    return path

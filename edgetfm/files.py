"""Files and folders written so that an interruption leaves the old result or the new one, whole.

Every write, fsync, rename and removal goes through this module and announces itself before and
after to `hook`, which tests use to kill the process there. What the system refuses (a full disk,
a read-only file system) is an OutputError.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from edgetfm.errors import InputError, OutputError

if sys.platform != "win32":
    import fcntl

hook: Callable[[str], None] | None = None
"""Called with 'before write onnx/model.onnx', 'after rename ...' and so on. None outside tests."""


def _announce(event: str) -> None:
    if hook is not None:
        hook(event)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """An OSError inside becomes an OutputError that names the path."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a name that holds a zero byte
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"could not write {path!s}: {reason}") from error


class NewFile:
    """A file being written: hashes what passes through it and is on disk when closed."""

    def __init__(self, path: Path, *, stays: bool = True) -> None:
        """stays: False for what is read again and then removed: it is not hashed, and may never
        reach the disk."""
        self.path = path
        self.bytes = 0
        self._stays = stays
        self._hash = hashlib.sha256()
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append `data`."""
        _announce(f"before write {self.path.name}")
        with writing(self.path):
            size = self._file.write(data)
        _announce(f"after write {self.path.name}")
        if self._stays:
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
        if kind is not None:
            with contextlib.suppress(OSError):  # closing flushes again; the first error counts
                self._file.close()
            return
        with writing(self.path), self._file:
            self._file.flush()
            if not self._stays:
                return
            _announce(f"before fsync {self.path.name}")
            os.fsync(self._file.fileno())
            _announce(f"after fsync {self.path.name}")


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`, or leave it as it was."""
    remove_abandoned(path)
    partial = beside(path, "partial")
    try:
        file = NewFile(partial)
        with Lock(partial):
            with file:
                file.write(data)
            rename(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make the entries of a folder durable, where the system can."""
    if os.name == "nt":
        return
    _announce(f"before fsync {path.name}")
    with writing(path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
                raise
        finally:
            os.close(handle)
    _announce(f"after fsync {path.name}")


def rename(old: Path, new: Path) -> None:
    """Rename and make it durable. A file or an empty folder at `new` is replaced."""
    _announce(f"before rename {new.name}")
    with writing(new):
        old.replace(new)
    _announce(f"after rename {new.name}")
    sync_folder(new.parent)


def exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step; False where the system or its file system cannot."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    _announce(f"before exchange {other.name}")
    # From linux/fcntl.h and linux/fs.h: both paths relative to the working folder, swapped.
    at_cwd, rename_exchange = -100, 2
    paths = (os.fsencode(one.absolute()), os.fsencode(other.absolute()))
    if renameat2(at_cwd, paths[0], at_cwd, paths[1], rename_exchange) != 0:
        code = ctypes.get_errno()
        # EPERM: a container's filter that does not know the call.
        if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM):
            return False
        raise OutputError(f"could not write {other}: {os.strerror(code)}")
    _announce(f"after exchange {other.name}")
    sync_folder(other.parent)
    return True


def remove_tree(path: Path) -> None:
    """Remove a folder of ours; absent is fine, and so is another process at the same work."""
    if path.exists():
        _announce(f"before remove {path.name}")
        shutil.rmtree(path, ignore_errors=True)
        _announce(f"after remove {path.name}")


def sha256(path: Path) -> str:
    """The hash of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(root: Path, relative: str) -> Path:
    """`root / relative`, or an InputError if that would leave `root`, links followed.

    In a cache of the Hugging Face hub every file is a link to `blobs` beside `snapshots`, in the
    folder of its repository: such a link does not leave it.
    """
    pure = PurePosixPath(relative)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\\" in relative:
        raise InputError(f"the path '{relative}' leaves its folder")
    path = root.joinpath(*pure.parts)
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a zero byte
        raise InputError(f"the path {relative!r} cannot be followed: {error}") from error
    home = root.resolve()
    if not resolved.is_relative_to(home) and resolved.parent != _blobs(home):
        raise InputError(f"the path '{relative}' leaves its folder through a link")
    return path


def _blobs(snapshot: Path) -> Path | None:
    """The folder with the files of a snapshot in a hub cache, None for any other folder.

    The layout is KIND--OWNER--NAME/snapshots/REVISION/..., and the client alone makes links there:
    a repository cannot bring any (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
    """
    for folder in snapshot.parents:
        named = folder.parent.name.startswith(("models--", "datasets--", "spaces--"))
        if folder.name == "snapshots" and named:
            return folder.parent / "blobs"
    return None


# --- unfinished work ----------------------------------------------------------------------------
# What is being made stands beside its place as '.NAME.TOKEN.partial', under a lock that the
# system lifts when its process ends: whoever comes next can tell what was abandoned from what is
# still being made. (A process number could not: containers reuse them, machines share disks.)


def remove_abandoned(target: Path) -> None:
    """Remove what interrupted processes left beside `target`; what is in use is let be."""
    for left in (*left_beside(target, "partial"), *left_beside(target, "new")):
        with Lock(left) as lock:
            if lock.held:
                remove(left)
    for left in left_beside(target, "old"):
        if not left.with_suffix(".new").exists():
            remove(left)


def remove(path: Path) -> None:
    """Remove a file or folder, if that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def beside(path: Path, kind: str) -> Path:
    """A new hidden name next to `path`: '.NAME.TOKEN.kind'."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{kind}")


def left_beside(path: Path, kind: str) -> list[Path]:
    """What exists under such names."""
    name = "".join(f"[{c}]" if c in "*?[" else c for c in path.name)
    return sorted(path.parent.glob(f".{name}.{'[0-9a-f]' * 8}.{kind}"))


class Lock:
    """A lock on a path, without waiting: `held`, or `taken` by another process.

    Neither where there are no locks (Windows, some network disks): nothing is ever thought
    abandoned there.
    """

    def __init__(self, path: Path) -> None:
        self.held = self.taken = False
        self._handle: int | None = None
        if sys.platform == "win32":
            return
        try:
            self._handle = os.open(path, os.O_RDONLY)
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.held = True
        except BlockingIOError:
            self.taken = True
        except OSError:
            return

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """Let go."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __exit__(self, *_: object) -> None:
        self.close()

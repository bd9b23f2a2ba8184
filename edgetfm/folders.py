"""Folders put in place whole: the old one or the new one, whenever the process is killed.

Linux exchanges two folders in one step. Elsewhere there is a moment between two renames in which
the target is absent: '.NAME.TOKEN.new' is complete by then and '.NAME.TOKEN.old' is there too,
and whoever looks next finishes the job.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from edgetfm import files
from edgetfm.errors import OutputError

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)


class NewFolder:
    """A folder being made, put in place by `commit` or not at all. Use as a context manager."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = files.beside(target, "partial")
        self._lock: files.Lock | None = None
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        with files.writing(self.target.parent):
            self._made = [p for p in self.target.parents if not p.exists()]
            self.target.parent.mkdir(parents=True, exist_ok=True)
            finish_interrupted_swap(self.target)
            files.remove_abandoned(self.target)
            for _ in range(100):  # another process may take it for abandoned before it is locked
                self.path = files.beside(self.target, "partial")
                self.path.mkdir()
                self._lock = files.Lock(self.path)
                if self.path.exists() and not self._lock.taken:
                    return self
                self._lock.close()
        raise OutputError(f"could not write {self.target}: other processes remove what is made")

    def commit(self, *, replace: bool) -> None:
        """Put the folder in place; an OutputError if there is one already, unless `replace`."""
        for folder in (self.path, *(p for p in sorted(self.path.rglob("*")) if p.is_dir())):
            files.sync_folder(folder)
        if self.target.is_symlink() or self.target.is_file():
            raise OutputError(f"{self.target} is not a folder: it is left alone")
        if _is_free(self.target):
            if os.name == "nt" and self.target.exists():
                self.target.rmdir()  # elsewhere a rename replaces an empty folder
            files.rename(self.path, self.target)
        elif not replace:
            raise OutputError(f"{self.target} has appeared in the meantime and is left alone")
        elif files.exchange(self.path, self.target):
            files.remove_tree(self.path)
        else:
            self._swap_by_renames()

    def _swap_by_renames(self) -> None:
        new, old = self.path.with_suffix(".new"), self.path.with_suffix(".old")
        files.rename(self.path, new)
        try:
            files.rename(self.target, old)
            files.rename(new, self.target)
        except OutputError:
            if new.exists():  # else a reader has just finished the job
                finish_interrupted_swap(self.target)
                files.remove_tree(new)
                raise
        files.remove_tree(old)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
        with contextlib.suppress(OSError):  # not empty: the folder is in place, or another's is
            for parent in self._made:
                parent.rmdir()
        # Others write here too (a temporary file of a library): a full disk is no bug of theirs.
        if isinstance(error, OSError) and error.errno in _DISK:
            raise OutputError(f"could not write {self.target}: {error.strerror}") from error


def finish_interrupted_swap(target: Path) -> None:
    """Put in place the new folder of a swap that was cut off while `target` was absent."""
    if target.exists():
        return
    for new in files.left_beside(target, "new"):
        # Without the old one beside it, the swap had not begun and someone removed the target.
        if new.with_suffix(".old").exists():
            with contextlib.suppress(OutputError):  # another process was faster
                files.rename(new, target)
            return


def holds_files(folder: Path) -> bool:
    """Whether a folder has something in it; one that a writer has just moved away has not."""
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False


def _is_free(target: Path) -> bool:
    return not target.exists() or (target.is_dir() and not holds_files(target))

"""A file that is written about a bundle, never over what the bundle is made of."""

from __future__ import annotations

import os
from pathlib import Path

from edgetfm.bundle import Bundle
from edgetfm.errors import OutputError
from edgetfm.files import write_atomic
from edgetfm.manifest import MANIFEST

REPORT = "report.html"
"""The one file inside a bundle that may be written anew: it is evidence, and is not hashed."""


def check_place(file: Path, bundle: Bundle) -> None:
    """OutputError if `file` cannot be written, or belongs to the bundle; nothing is written yet.

    For before the work whose result goes there.
    """
    try:
        said = _in_the_way(file) or _owned(file, bundle)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        said = getattr(error, "strerror", None) or str(error)
    if said:
        raise OutputError(f"{file} cannot be written: {said}")


def write_about(bundle: Bundle, file: Path, text: str) -> None:
    """Replace the file by `text`, or leave it as it was; OutputError as `check_place` says.

    A link stays one, and what is no file, such as /dev/stdout, is written to.
    """
    check_place(file, bundle)
    if file.exists() and not file.is_file():
        try:
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{file} cannot be written: {error.strerror}") from error
    else:
        write_atomic(file.resolve(), text.encode())


def _in_the_way(file: Path) -> str:
    if file.is_dir():
        return "it is a folder"
    folder = file.resolve().parent
    if file.exists() and not file.is_file():
        return ""
    if not folder.is_dir():
        return f"there is no folder {folder}"
    return "" if os.access(folder, os.W_OK) else f"the folder {folder} takes no files"


def _owned(file: Path, bundle: Bundle) -> str:
    """Why it is the bundle's own; one file may have several names."""
    root, place = bundle.root.resolve(), file.resolve()
    own = [bundle.path(name) for name in (MANIFEST, *bundle.manifest.files)]
    inside = place.is_relative_to(root) and place != root / REPORT
    if inside or (file.exists() and any(one.exists() and one.samefile(file) for one in own)):
        return f"it lies in the bundle {bundle.root}; choose a place outside of it"
    return ""

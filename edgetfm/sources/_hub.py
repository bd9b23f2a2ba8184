"""A model's folder: on this machine, or fetched from the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgetfm.errors import MissingExtra, SourceError

_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "README.md", "1_*/config.json"]


def called(folder: Path) -> str:
    """The name of a folder as it was given: a link is called as the link."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


def locate(spec: str | os.PathLike[str]) -> tuple[Path, str]:
    """The folder of a model and the name to call it by; only a hub id touches the network."""
    folder = Path(spec)
    if folder.is_dir():
        return folder, called(folder)
    if folder.exists():
        raise SourceError(f"{folder} is a file, expected a model's folder or a hub id")
    if not isinstance(spec, str) or not _ID.match(spec) or spec.startswith("."):
        raise SourceError(f"no model at {folder}: the folder does not exist")
    return _fetch(spec), spec


def _fetch(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtra("export", "fetching models from the hub") from error
    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED))
    except Exception as error:  # offline, gated, absent: the hub's client has many errors
        raise SourceError(
            f"no folder '{name}' here, and it could not be fetched from the Hugging Face hub "
            f"({type(error).__name__}): give the path of a folder, or check the id and the network"
        ) from error

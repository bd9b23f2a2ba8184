"""A model's folder: on this machine, or fetched from the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgetfm.errors import MissingExtra, SourceError

_ID = re.compile(r"^([A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@([\w./-]+))?$")
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "README.md"]


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
    named = _ID.match(spec) if isinstance(spec, str) else None
    if named is None:
        raise SourceError(f"no model at {folder}: the folder does not exist")
    return _fetch(*named.groups()), str(spec)


def _fetch(name: str, revision: str | None) -> Path:
    """The folder of a snapshot in the hub's cache; what is there already is not fetched again."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtra("export", "fetching models from the hub") from error
    from edgetfm.sources._reference import quiet_transformers

    try:
        with quiet_transformers():
            return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED))
    except Exception as error:  # the hub's client and what it is made of have many errors
        raise SourceError(_why(error, name, revision)) from error


def _why(error: Exception, name: str, revision: str | None) -> str:
    """What to say of an error of the hub's client, and what to do about it."""
    from huggingface_hub import errors

    # Where the cache was tried after the hub refused, the refusal is the cause.
    answers = [getattr(e, "response", None) for e in (error, error.__cause__)]
    status = next((a.status_code for a in answers if a is not None), None)
    if isinstance(error, errors.GatedRepoError):
        return (
            f"'{name}' is gated: accept its terms at https://huggingface.co/{name}, then log in "
            "with `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"'{name}' has no revision '{revision}' on the hub: give a branch, a tag or a commit"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        return (
            f"no folder '{name}' here, and no such model on the Hugging Face hub: check the id, or "
            "log in with `hf auth login` or HF_TOKEN if it is private"
        )
    if isinstance(error, errors.IncompleteSnapshotError):
        return (
            f"'{name}' is in the hub's cache only in part, and the hub cannot be reached: run this "
            "again with the network on"
        )
    offline = isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled))
    if offline or status is not None:
        said = f"it answered {status}" if status is not None else type(error).__name__
        return (
            f"no folder '{name}' here, and it could not be fetched from the Hugging Face hub "
            f"({said}): give the path of a folder, or check the id and the network"
        )
    return (
        f"'{name}' could not be fetched whole from the Hugging Face hub ({type(error).__name__}: "
        f"{next(iter(str(error).splitlines()), '')}): run it again, it goes on where it stopped"
    )

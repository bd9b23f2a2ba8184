"""Strings of programs in two languages, as a table of pairs to train a translator on.

    apt-get download libreoffice-l10n-de && dpkg -x libreoffice-l10n-de_*.deb debian
    pip download --no-deps django==5.2.19 && python -m zipfile -e django-*.whl django
    python benchmarks/strings.py strings.csv debian django

Reads every German catalogue (.mo) below the folders. Keys to press (~ and _) are taken out of the
labels. Of strings that differ only in case, digits or punctuation the first one is kept, so that
no source in a part of the data has a twin in another, and each has one translation. The pairs that
training keeps for its test, by the hashes of their sources, are written to a table beside it
(strings-test.csv) to judge an exported model by. Says what BLEU copying the source would have.
"""

from __future__ import annotations

import argparse
import csv
import gettext
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import sacrebleu

from edgetfm.training.config import load_config

LANGUAGE = "de"
LONGEST = 50
"""Characters of a source: a label, a hint or a short message."""
CONTEXT = "\x04"
"""Stands in a catalogue between where a string is shown and the string."""
_KEY = re.compile(r"[~_](?=\w)|(?<=\w)[~_](?=\w)")
_KEY_ALONE = re.compile(r"\s*\([~_]\w\)")
"""A key in brackets, as where no letter of the label is to be pressed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table", type=Path, help="the .csv file to write")
    parser.add_argument("folders", type=Path, nargs="+", help="where catalogues are looked for")
    parser.add_argument("--config", default="transformer-pairs", help="says the share of the test")
    options = parser.parse_args()
    pairs = distinct(pair for folder in options.folders for pair in strings_in(folder))
    shares = load_config(options.config).shares
    test = [pair for pair in pairs if shares.part_of(pair[0].encode()) == "test"]
    beside = options.table.with_name(f"{options.table.stem}-test.csv")
    for path, rows in ((options.table, pairs), (beside, test)):
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(("source", "target"))
            table.writerows(rows)
    copied = sacrebleu.corpus_bleu([source for source, _ in test], [[t for _, t in test]])
    print(f"{len(pairs)} pairs, {len(test)} of them to test; copying: {copied}", file=sys.stderr)


def strings_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Each string of the catalogues below a folder and its translation, cleaned."""
    found = sorted(p for p in folder.rglob("*.mo") if LANGUAGE in p.parts)
    if not found:
        raise SystemExit(f"{folder} holds no German catalogue (.../{LANGUAGE}/.../*.mo)")
    for path in found:
        with path.open("rb") as file:
            catalogue = gettext.GNUTranslations(file)
        # The public interface looks strings up and lists none.
        held: dict[object, str] = vars(catalogue)["_catalog"]
        for key, target in held.items():
            if isinstance(key, str) and key:  # a plural's key has a number too
                yield cleaned(key.rpartition(CONTEXT)[2]), cleaned(target)


def cleaned(text: str) -> str:
    """A string in one line, as it is read: without the marks of keys to press."""
    text = _KEY.sub("", _KEY_ALONE.sub("", text))
    return " ".join(text.split())


def distinct(pairs: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first of all pairs whose sources have the same words; those of no word are left out."""
    kept: dict[str, tuple[str, str]] = {}
    for source, target in pairs:
        words = re.sub(r"[\W\d_]+", " ", source.casefold()).strip()
        if words and target and len(source) <= LONGEST:
            kept.setdefault(words, (source, target))
    return list(kept.values())


if __name__ == "__main__":
    main()

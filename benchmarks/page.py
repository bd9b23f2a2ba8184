"""docs/benchmarks.md, and the runs that it is made of: no number of it is written by hand.

    python benchmarks/page.py run encoder -- --bundle runs/minilm-int8 --with openvino
    python benchmarks/page.py run decoder --as decoder-2-threads -- --threads 2 ...
    python benchmarks/page.py write

`run` starts benchmarks/NAME.py with these arguments and keeps what it measured in results/, beside
the command, the date, edgetfm's commit, the machine and how busy it was. `write` makes the page of
all results that are kept. A benchmark has a page's section if it takes `--json FILE` and writes
rows there, alone or as `rows`: a row's fields are the columns, and what they mean is what the class
`Row` says.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgetfm.runtime.machine import machine

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "benchmarks.md"
HEAD = """\
# Benchmarks

<!-- Made by `make bench`: python benchmarks/page.py write. Edit that, not this. -->

Each table is one run of one command, on the machine and the day that stand below it. Rivals run in
environments of their own (`benchmarks/envs`), one at a time on the same cores, in rounds that go
around; ratios are taken inside a round. Times of another machine are other times: run it there.
"""
NOTHING = "\nNothing was measured yet: `make bench` does.\n"


def main() -> None:
    own, given = split(sys.argv[1:])
    options = arguments(own)
    if options.verb == "run":
        run(options.name, given, options.title or options.name)
    PAGE.write_text(page(kept_results()), encoding="utf-8")


def split(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """What is ours, and behind `--` what is the benchmark's."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    verbs = parser.add_subparsers(dest="verb", required=True)
    runs = verbs.add_parser("run", help="measure, and write the page: NAME -- OPTIONS")
    runs.add_argument("name", help="of a file in benchmarks/")
    runs.add_argument("--as", dest="title", default="", help="the result's name, if not the same")
    verbs.add_parser("write", help="write the page")
    return parser.parse_args(words)


def run(name: str, given: Sequence[str], title: str) -> Path:
    """Start a benchmark, and keep what it measured. SystemExit if it fails or gives no rows."""
    script = HERE / f"{name}.py"
    if not script.is_file() or "--json" not in script.read_text(encoding="utf-8"):
        raise SystemExit(f"benchmarks/{name}.py is no benchmark that takes --json")
    outside = [one for one in given if Path(one).is_absolute()]
    if outside:
        raise SystemExit(f"give paths from the repository on, others could not: {outside}")
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "result.json"
        command = [sys.executable, str(script), *given, "--json", str(file)]
        subprocess.run(command, check=True, cwd=HERE.parent)
        found = json.loads(file.read_text(encoding="utf-8"))
    if not rows_of(found):
        raise SystemExit(f"benchmarks/{name}.py measured nothing")
    result = {
        "benchmark": name,
        "command": " ".join(["python", f"benchmarks/{name}.py", *given]),
        "date": datetime.now(UTC).date().isoformat(),
        "edgetfm": {"version": version("edgetfm"), "commit": commit(HERE.parent)},
        "machine": machine(),
        "busy": round(busy, 2),
        "found": found,
    }
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / f"{title}.json"
    kept.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return kept


def commit(folder: Path) -> str | None:
    """The commit that a repository stands at, a + behind it if files differ; None in no other."""
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def kept_results() -> list[dict[str, Any]]:
    """What was measured, in the order of the names."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))]


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """The page of these results, a section each benchmark."""
    if not results:
        return HEAD + NOTHING
    names = dict.fromkeys(str(result["benchmark"]) for result in results)
    return HEAD + "".join(
        section(name, [result for result in results if result["benchmark"] == name])
        for name in names
    )


def section(name: str, results: Sequence[Mapping[str, Any]]) -> str:
    """A benchmark: what it is, each of its runs, and what the columns mean."""
    title, about, columns = said_by(HERE / f"{name}.py")
    parts = [f"## {title}", about, *map(table, results), columns]
    return "".join(f"\n{part}\n" for part in parts if part)


def table(result: Mapping[str, Any]) -> str:
    """One run: its rows, its command, and where and when it was."""
    rows, here = rows_of(result["found"]), result["machine"]
    names = [key for key, value in rows[0].items() if not isinstance(value, dict)]
    head = ["" if name == "title" else name.replace("_", " ") for name in names]
    rule = ["---" if name == "title" else "---:" for name in names]
    lines = [head, rule, *([shown(row[name]) for name in names] for row in rows)]
    versions = [
        f"{row['title']}: {', '.join(f'{k} {v}' for k, v in row['versions'].items())}"
        for row in rows
        if row.get("versions")
    ]
    ours = result["edgetfm"]
    made = [
        f"`{result['command']}`",
        f"edgetfm {ours['version']}, commit {ours['commit'] or 'not known'}",
        f"{result['date']}, {here['cpu']}, {here['cpus']} cores,"
        f" {', '.join(here['cpu_features'] or ('features not listed',))}, {here['system']},"
        f" Python {here['python']}, onnxruntime {here['onnxruntime']};"
        f" load before: {result['busy']}",
        *versions,
    ]
    return "\n".join(
        [*("| " + " | ".join(line) + " |" for line in lines), "", *(f"- {one}" for one in made)]
    )


def rows_of(found: Any) -> list[dict[str, Any]]:
    """The rows of a benchmark's JSON: a list of them, or under `rows`."""
    rows = found["rows"] if isinstance(found, dict) else found
    return list(rows)


def said_by(script: Path) -> tuple[str, str, str]:
    """Of a benchmark: its first line, what else it says of itself, and of the columns, of Row."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    title, *more = (ast.get_docstring(tree) or script.stem).split("\n\n")
    prose = " ".join(" ".join(part.split()) for part in more if not part.startswith(" "))
    if prose.endswith(":"):  # what led to commands
        prose = prose.rpartition(". ")[0] + "."
    rows = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Row")
    columns = next((ast.get_docstring(node) for node in rows), None) or ""
    # A page's options are those of edgetfm: a benchmark's own stand there as words.
    prose, columns = (re.sub(r"`(--[\w-]+)`", r"\1", text) for text in (prose, columns))
    return " ".join(title.split()).rstrip("."), prose, " ".join(columns.split())


def shown(value: Any) -> str:
    """A number to four digits, a word as it is."""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value).replace("|", "\\|")


if __name__ == "__main__":
    main()

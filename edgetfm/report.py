"""What an export says to people: the report page, the model card, and the rows they share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgetfm.bundle import Manifest
from edgetfm.parity import Ledger, Measures, Rung
from edgetfm.tasks import TASKS

if TYPE_CHECKING:
    from jinja2 import Environment

Tried = Sequence[Mapping[str, Any]]
"""Each variant that was tried, as `edgetfm.variants.Tried.to_json` gives it."""


def report_page(manifest: Manifest, ledger: Ledger, tried: Tried, notes: Sequence[str] = ()) -> str:
    """report.html: one file without scripts, and without links to elsewhere."""
    return _render("report.html.j2", manifest, ledger, tried, notes)


def model_card(manifest: Manifest, ledger: Ledger, tried: Tried, notes: Sequence[str] = ()) -> str:
    """README.md of a bundle: a model card."""
    return _render("card.md.j2", manifest, ledger, tried, notes)


def _render(
    template: str, manifest: Manifest, ledger: Ledger, tried: Tried, notes: Sequence[str]
) -> str:
    environment = _environment(html=template.endswith(".html.j2"))
    return environment.get_template(template).render(
        name=model_name(manifest),
        manifest=manifest,
        task=TASKS[manifest.task].on(
            manifest.components["model"].signature, manifest.preprocessing
        ),
        component=manifest.components["model"],
        variants=variant_rows(manifest, tried),
        ledger=ledger,
        rungs=ledger_rows(ledger),
        tried=tried_table(tried),
        chosen=manifest.default,
        facts={str(t["precision"]): split_facts(t["facts"]) for t in tried if t.get("facts")},
        notes=list(notes),
        rows=fact_rows,
    )


def model_name(manifest: Manifest) -> str:
    """The last part of the source's name."""
    return str(manifest.source.get("name") or manifest.family).rstrip("/").rpartition("/")[2]


def _environment(*, html: bool) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("edgetfm", "."),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown_text
    return environment


_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>|#"} | {"\n": " ", "\r": " "})


def markdown_text(value: Any) -> str:
    """The text of a value, without meaning to Markdown or HTML."""
    return str(value).translate(_MARKDOWN)


# --- rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LedgerRow:
    """One output of one rung, in words."""

    name: str
    against: str
    output: str
    max_error: str
    cosine: str
    worst_cosine: str
    agreement: str
    bound: str
    verdict: str
    note: str


def ledger_rows(ledger: Ledger) -> list[LedgerRow]:
    """A row for each output of each rung."""
    return [
        _ledger_row(rung, output, measures)
        for rung in ledger.rungs
        for output, measures in rung.measures.items()
    ]


def _ledger_row(rung: Rung, output: str, measures: Measures) -> LedgerRow:
    bound = rung.bound if rung.bound_on in ("", output) else ""
    missed = any(miss.startswith(f"{output}:") for miss in rung.missed)
    agreement = measures.agreement
    return LedgerRow(
        name=rung.name,
        against=rung.against,
        output=output,
        max_error=f"{measures.max_error:.1e}",
        cosine=share(measures.cosine),
        worst_cosine=share(measures.worst_cosine),
        agreement="" if agreement is None else f"{agreement:.2%}",
        bound=bound.replace(",", ", "),
        verdict="FAIL" if missed else "pass" if bound else "",
        note=rung.note,
    )


def share(value: float) -> str:
    """A number near 1, cut and not rounded: it never looks better than it is."""
    if abs(value - 1) < 1e-12:
        return "1.0000"  # what is missing is the rounding of the cosine itself
    digits = 7 if 0.9999 < value < 1 else 4
    if not math.isfinite(value):
        return str(value)
    return f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"


def variant_rows(manifest: Manifest, tried: Tried) -> list[dict[str, str]]:
    """The variants that ship: precision, file, and size with external data."""
    known = {str(t["precision"]): int(t["bytes"]) for t in tried}
    rows = []
    for precision, variant in manifest.components["model"].variants.items():
        names = [variant.file] + ([variant.data] if variant.data else [])
        listed = sum(manifest.files[n].bytes for n in names if n in manifest.files)
        rows.append(
            {
                "precision": precision,
                "file": variant.file,
                "size": size(known.get(precision, listed)),
            }
        )
    return rows


def tried_table(tried: Tried) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of what was tried; a column that nobody fills is left out."""
    rows = [_tried_row(t) for t in tried]
    headers = [h for h in dict.fromkeys(h for r in rows for h in r) if any(r.get(h) for r in rows)]
    return headers, [[row.get(h, "") for h in headers] for row in rows]


def _tried_row(tried: Mapping[str, Any]) -> dict[str, str]:
    """One variant in words; the measures are those of the output its budget is about."""
    latency, spread = tried.get("latency"), tried.get("spread")
    measures = list(tried.get("measures", {}).values())
    judged: Mapping[str, Any] = measures[-1] if measures else {}
    metric = tried.get("metric", {})
    return {
        "variant": str(tried["precision"]),
        "size": size(tried["bytes"]),
        "time to fp32": "" if latency is None else f"{latency:.2f}x",
        "spread": f"±{spread:.1%}" if spread else "",
        "cosine": share(judged["cosine"]) if "cosine" in judged else "",
        "worst cosine": share(judged["worst_cosine"]) if "worst_cosine" in judged else "",
        "agreement": f"{judged['agreement']:.2%}" if "agreement" in judged else "",
        "accuracy": f"{metric['accuracy']:.2%}" if "accuracy" in metric else "",
        "in budget": "yes" if tried.get("inside") else "no",
        "missed": "; ".join(tried.get("missed", ())),
    }


Table = tuple[str, list[str], list[list[str]]]
"""A title, headers and cells."""


def split_facts(facts: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[Table]]:
    """The single facts as lines, and the lists of nodes among them as tables."""
    lists = {k: v for k, v in facts.items() if v and _is_list_of_rows(v)}
    single = {k: v for k, v in facts.items() if k not in lists}
    return fact_rows(single), [_node_table(k.replace("_", " "), v) for k, v in lists.items()]


def _is_list_of_rows(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(v, Mapping) for v in value)


def _node_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row a node; nodes that differ in nothing but their name share one."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    name, rest = keys[0], keys[1:]
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        same = tuple(cell(key, row[key]) if key in row else "" for key in rest)
        groups.setdefault(same, []).append(str(row.get(name, "")))
    headers = [key.replace("_", " ") for key in (name, *rest)]
    return f"{title} ({len(rows)})", headers, [[", ".join(n), *same] for same, n in groups.items()]


def fact_rows(facts: Any) -> list[tuple[str, str]]:
    """Nested facts as lines: what it is about, and what is so."""
    if not isinstance(facts, Mapping):
        return [("", cell("", facts))]
    return [(label(k), cell(str(k), v)) for k, v in facts.items()]


def label(key: object) -> str:
    """A key in words; a name that others gave, such as a file's or a setting's, stays as it is."""
    return str(key) if "." in str(key) else str(key).replace("_", " ")


def cell(key: str, value: Any) -> str:
    """One value in words."""
    if value is None or value == "" or value == {} or value == []:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return size(value) if key == "bytes" or key.endswith("_bytes") else f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 0.1 or abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{label(k)}: {cell(str(k), v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        if key == "shape":
            return " × ".join(map(str, value))
        return ", ".join(cell(key, v) for v in value)
    return str(value)


def size(count: float) -> str:
    """Bytes in words: 1 MB is a million bytes, as stores and data sheets count."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return (
                f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
            )
        count /= 1000
    return f"{count:.2f} GB"

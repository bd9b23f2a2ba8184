"""What the facts of one variant say, as sections of the report page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgetfm.reporting.tried import Item, name_of
from edgetfm.reporting.words import cell, fact_rows, label

OPEN = 8
"""A table about more nodes than this is folded away."""

SHARES = {
    "share_of_multiply_accumulates_in_int8": "in int8",
    "share_of_multiply_accumulates_in_blocks": "in blocks",
}
"""The facts that say how much of the work is done how; what is left is in float."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Table:
    """Headers and cells under a title, and a sentence that says what they are.

    items: what the rows are about, where several share a row.
    """

    title: str
    headers: list[str]
    rows: list[list[str]]
    says: str = ""
    items: int = 0

    @property
    def open(self) -> bool:
        """Whether it is short enough to be shown at once."""
        return max(self.items, len(self.rows)) <= OPEN


@dataclass(frozen=True)
class Explained:
    """One variant: single facts, why nodes are float, tables.

    shares: of the multiply-accumulates, in percent, and how they are done; those in float last.
    """

    name: str
    note: str
    shares: list[tuple[str, float]]
    single: list[tuple[str, str]]
    reasons: list[tuple[str, int]]
    tables: list[Table] = field(default_factory=list)


def explain(item: Item) -> Explained | None:
    """What a variant's facts say; None if there are none. Facts that are not known are shown too.

    facts: as `edgetfm.quantize.quantize_graph` gives them, with "profile" (`Profile.to_json`),
    "saturation" and "search" where those were done.
    """
    facts = dict(item.get("facts") or {})
    if not facts:
        return None
    shares = [
        (says, 100 * float(facts.pop(key) or 0)) for key, says in SHARES.items() if key in facts
    ]
    if shares:
        shares.append(("in float", max(0.0, 100 - sum(share for _, share in shares))))
    left = facts.get("left_in_float") or []
    tables = [
        table
        for key, make in _SECTIONS.items()
        if facts.get(key)
        for table in make(facts.pop(key))
        if table.rows
    ]
    lists = {k: v for k, v in facts.items() if v and _is_rows(v)}
    maps = {k: v for k, v in facts.items() if isinstance(v, Mapping) and len(v) > OPEN}
    tables += [_nodes(label(key), rows) for key, rows in lists.items()]
    tables += [
        Table(f"{label(key)} ({len(v)})", ["", ""], [list(r) for r in fact_rows(v)])
        for key, v in maps.items()
    ]
    rest = {k: v for k, v in facts.items() if k not in lists and k not in maps and v != []}
    return Explained(
        name=name_of(item),
        note=str(item.get("note") or ""),
        shares=[(says, share) for says, share in shares if share],
        single=fact_rows(rest),
        reasons=_reasons(left),
        tables=tables,
    )


def _is_rows(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(v, Mapping) for v in value)


def _reasons(left: Rows) -> list[tuple[str, int]]:
    """Why nodes stayed in float, and how many for each reason, the commonest first."""
    counts: dict[str, int] = {}
    for row in left:
        reason = str(row.get("reason", ""))
        counts[reason] = counts.get(reason, 0) + 1
    return sorted(counts.items(), key=lambda pair: -pair[1])


def _nodes(title: str, rows: Rows, says: str = "") -> Table:
    """A row a node; nodes that differ in nothing but their name share one."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    name, rest = keys[0], keys[1:]
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        same = tuple(cell(key, row[key]) if key in row else "" for key in rest)
        groups.setdefault(same, []).append(str(row.get(name, "")))
    headers = [label(key) for key in (name, *rest)]
    cells = [[", ".join(names), *same] for same, names in groups.items()]
    return Table(f"{title} ({len(rows)})", headers, cells, says, len(rows))


def _quantized(rows: Rows) -> list[Table]:
    errors = "error: relative rms error of a node's output, on calibration data, both weights and "
    errors += "activations rounded. alpha: the strength of the smoothing of its input."
    return [_nodes("Matrix products quantized", rows, errors)]


def _in_float(rows: Rows) -> list[Table]:
    return [_nodes("What stayed in float", rows)]


def _embeddings(rows: Rows) -> list[Table]:
    says = "error: relative rms error of the table's own entries; nothing else is rounded there."
    return [_nodes("Embeddings", rows, says)]


def _saturation(found: Mapping[str, Any]) -> list[Table]:
    """Those that overflow and were left, then those that were cured."""
    target = f" Asked for: {cell('', found['target'])}." if found.get("target") else ""
    says = (
        "pairs: sums of two neighbouring products that do not fit in 16 bits, counted on "
        "calibration data; x86 CPUs with AVX2 and without VNNI clip them. error: relative rms "
        f"error of the node's output that this makes there.{target}"
    )
    tables: list[Table] = []
    for key, title in (
        ("nodes", "Sums that overflow 16 bits"),
        ("cured", "Cured: weights that cannot overflow 16 bits"),
    ):
        rows = [r if isinstance(r, Mapping) else {"node": r} for r in found.get(key) or ()]
        if rows:
            tables.append(_nodes(title, rows, "" if tables else says))
    if not tables:
        rest = {k: v for k, v in found.items() if k not in ("nodes", "cured")}
        shown = [["overflow", "none"], *map(list, fact_rows(rest))]
        tables.append(Table("Sums that overflow 16 bits: none", ["", ""], shown, says))
    return tables


def _search(log: Rows) -> list[Table]:
    keys = list(dict.fromkeys(key for row in log for key in row))
    cells = [[cell(key, row[key]) if key in row else "" for key in keys] for row in log]
    says = "Each step in its order, with what it came to on calibration data."
    return [Table(f"The search ({len(log)} steps)", [label(k) for k in keys], cells, says)]


def _profile(found: Mapping[str, Any]) -> list[Table]:
    """Fusions, then where the time goes: by operator, by node."""
    fusions = [
        [
            str(row["name"]),
            f"{row['matched']} of {row['expected']}",
            ", ".join(f"{count} {op}" for op, count in row["became"].items()) or "as written",
        ]
        for row in found.get("fusions", ())
    ]
    here = "Shares of the time of a call, on this machine and 1 thread: medians of "
    here += f"{found.get('runs', 'several')} runs under onnxruntime's profiler."
    operators = [
        [str(row["op"]), str(row["nodes"]), f"{row['share']:.1%}"]
        for row in found.get("operators", ())
    ]
    nodes = [
        [str(row["node"]), str(row["op"]), f"{row['share']:.1%}"] for row in found.get("nodes", ())
    ]
    onnxruntime = "What onnxruntime should turn into fewer, faster nodes, and what it made of it."
    return [
        Table("Fusions expected and matched", ["of", "matched", "became"], fusions, onnxruntime),
        Table("Time by operator", ["operator", "nodes", "share"], operators, here),
        Table("The slowest nodes", ["node", "operator", "share"], nodes, here),
    ]


_SECTIONS: dict[str, Callable[[Any], list[Table]]] = {
    "left_in_float": _in_float,
    "saturation": _saturation,
    "search": _search,
    "profile": _profile,
    "nodes": _quantized,
    "embeddings": _embeddings,
}
"""The facts that have a section of their own, in its order."""

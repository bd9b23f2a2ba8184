"""Results as people read them on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from edgetfm.cli._table import facts_text, hanging, table
from edgetfm.cli._tensors import tensors_text
from edgetfm.cli._written import chunk_lines
from edgetfm.ledger import FEW_MISS, Ledger
from edgetfm.reporting.devices import device_notes, device_table
from edgetfm.reporting.report import ledger_rows, tried_table
from edgetfm.reporting.words import cell, label, share, size

if TYPE_CHECKING:
    from edgetfm.workflow.compare import BundleComparison, Side
    from edgetfm.workflow.made import ExportResult


def export_text(result: ExportResult) -> str:
    """What was made, what was tried, and the proof."""
    parts = [ledger_text(result.ledger)]
    if result.tried:
        parts.append(tried_text(result.tried))
    if result.notes:
        parts.append("\n".join(line for note in result.notes for line in hanging("note: ", note)))
    made = (
        f"{result.path}: {result.family} for {result.task} ({result.route} route), "
        f"{result.variant}, {size(result.bytes)}, {result.seconds:.0f} s"
    )
    report = f"report: {result.path / 'report.html'}"
    parts.append("\n".join([*hanging("", made), report]))
    return "\n\n".join(parts)


IN_REPORT = ("to fp32", "missed", "why")
"""Columns of the variants that were tried which only the report page has room for."""


def tried_text(tried: Sequence[Mapping[str, Any]]) -> str:
    """The variants that were tried, a row each."""
    headers, rows = tried_table(tried)
    shown = [c for c, header in enumerate(headers) if header not in IN_REPORT]
    cells = [[row[c] for c in shown] for row in rows]
    return table([headers[c] for c in shown], cells, spare=("worst cosine", "KL", "cosine"))


def ledger_text(ledger: Ledger) -> str:
    """The ledger as a table, the bounds below it once each, and its verdict in one line."""
    rows = ledger_rows(ledger)
    headers = ["step", "against", "output", "error", "cosine", "worst", "agree", "metric", ""]
    cells = [
        [
            row.name,
            row.against,
            row.output,
            row.max_error,
            row.cosine,
            row.worst_cosine,
            row.agreement,
            row.metric,
            row.verdict,
        ]
        for row in rows
    ]
    held = "every bound holds" if ledger.passed else f"{len(ledger.failures)} bounds are missed"
    if ledger.refusals:
        held = f"{len(ledger.failures)} bounds are missed or devices failed"
    colour = "green" if ledger.passed else "red"
    parts = [table(headers, cells, spare=("error", "worst"))]
    steps: dict[str, list[str]] = {}
    for row in rows:
        if row.bound and row.name not in steps.setdefault(row.bound, []):
            steps[row.bound].append(row.name)
    if steps:
        held_by = [[bound, ", ".join(names)] for bound, names in steps.items()]
        parts.append(table(["bound", "of"], held_by))
    noted = [r for r in ledger.rungs if r.note and (r.metric or r.note.startswith(FEW_MISS))]
    if said := [f"{r.name}: {r.note}" for r in noted]:
        parts.append("\n".join(line for note in said for line in hanging("", note)))
    return "\n\n".join([*parts, click.style(held, fg=colour, bold=True)])


def devices_text(ledger: Ledger, sizes: Mapping[str, int]) -> str:
    """The ledger, then a row for each device and a line for each that failed."""
    headers, rows = device_table(ledger, sizes)
    parts = [ledger_text(ledger)] if ledger.rungs else []
    parts.append(table(headers, rows, spare=("size", "load", "call")))
    notes = device_notes(ledger)
    if notes:
        parts.append("\n".join(line for note in notes for line in hanging("", note)))
    return "\n\n".join(parts)


def comparison_text(found: BundleComparison) -> str:
    """Two bundles side by side, then how far the answers of the second are from the first's."""
    a, b = found.a, found.b
    spread = f" ±{found.latency.spread:.1%}"
    rows = [
        ["bundle", a.name, b.name, ""],
        ["variant", a.variant, b.variant, ""],
        ["size", size(a.bytes), size(b.bytes), f"{found.bytes:.2f}x"],
        ["latency", _latency(a), _latency(b), f"{found.latency.median:.2f}x{spread}"],
    ]
    if a.session != b.session:
        rows.append(["session", cell("", a.session), cell("", b.session), ""])
    for field, values in found.recipe.items():
        told = [_field(value, other) for value, other in (values, values[::-1])]
        rows.append([f"recipe: {label(field)}", *told, ""])
    if a.calibration != b.calibration:
        rows.append(["calibration", *(_calibration(side) for side in (a, b)), ""])
    rows.append(["ledger", _ledger_said(a), _ledger_said(b), ""])
    answers = [
        [
            name,
            f"{m.rows:,}",
            f"{m.max_error:.1e}",
            share(m.cosine),
            share(m.worst_cosine),
            "" if m.agreement is None else f"{m.agreement:.2%}",
            "" if m.kl is None else f"{m.kl:.2g}",
        ]
        for name, m in found.answers.items()
    ]
    headers = ["answers of B against A", "rows", "error", "cosine", "worst", "agree", "KL"]
    return "\n\n".join([table(["", "A", "B", "B to A"], rows), table(headers, answers)])


def _latency(side: Side) -> str:
    return f"{side.latency.median * 1e3:.2f} ms"


def _calibration(side: Side) -> str:
    """Its name, how many, and enough of the hash to tell two of one name apart."""
    told = side.calibration
    if not told:
        return "–"
    return f"{told.get('name')}: {told.get('count')} items, {str(told.get('sha256'))[:8]}"


SHOWN = 3
"""How many nodes of a list are named."""


def _field(value: Any, other: Any) -> str:
    """One side's value of a field of a recipe; of a list of nodes how many, and its own."""
    nodes = [v for v in (value, other) if isinstance(v, list) and v and isinstance(v[0], str)]
    if not nodes or not value:
        return cell("", value)
    own = [node for node in value if node not in (other or ())]
    more = f" and {len(own) - SHOWN} more" if len(own) > SHOWN else ""
    only = f", only here: {', '.join(own[:SHOWN])}{more}" if own and other else ""
    named = "" if other else f": {', '.join(own[:SHOWN])}{more}"
    return f"{len(value)} {'node' if len(value) == 1 else 'nodes'}{named}{only}"


def _ledger_said(side: Side) -> str:
    if (proof := side.proof) is None:
        return "none"
    where = f" on {proof['cpu']}" if proof["cpu"] else ""
    missed = "".join(f"; missed: {miss}" for miss in proof["missed"])
    return f"{proof['held']} of {proof['of']} steps hold{where}{missed}"


def bundle_text(data: Mapping[str, Any]) -> str:
    """What matters of a manifest; `--json` has all of it."""
    facts: dict[str, Any] = {
        "task": data["task"],
        "family": f"{data['family']} ({data['route']} route)",
        "source": data["source"].get("name", ""),
        "licence": data["licence"],
        "size": size(data["total_bytes"]),
    }
    for name, component in data["components"].items():
        facts[name] = {
            way: tensors_text(component["signature"][way]) for way in ("inputs", "outputs")
        } | {
            precision: f"{variant['file']}, {size(data['component_bytes'][name][precision])}"
            + (" (default)" if precision == data["default"] else "")
            for precision, variant in component["variants"].items()
        }
    labels = data["labels"]
    facts |= {
        "labels": f"{len(labels)}: {', '.join(labels[:8])}" if labels else None,
        "session": {k: v for k, v in data["session"].items() if v} or None,
        "budget": data["budget"],
        "calibration": data["calibration"].get("name"),
        "proof": _proof_text(data["ledger"]),
    }
    return facts_text(facts)


def model_text(data: Mapping[str, Any]) -> str:
    """What a model that can be exported is."""
    tensors = {way: tensors_text(named) for way, named in data["signature"].items()}
    return facts_text({**data, "signature": tensors})


def _proof_text(ledger: Mapping[str, Any] | None) -> str:
    if ledger is None:
        return "none: it has no parity.json"
    bound = [rung for rung in ledger["rungs"] if rung["bound"]]
    held = sum(bool(rung["passed"]) for rung in bound)
    return f"{held} of {len(bound)} steps hold, on {ledger['machine'].get('cpu', 'this machine')}"


def bench_text(data: Mapping[str, Any]) -> str:
    """What was measured, of what and where; `--json` has every number."""
    latency, here = data["latency_ms"], data["machine"]
    asked = [f"batch {data['batch']}"]
    if data["sequence"] is not None:
        asked.append(f"{data['sequence']} tokens")
    if data["threads"] is not None:
        asked.append(f"{data['threads']} thread{'s' if data['threads'] > 1 else ''}")
    peak = data["peak_memory_mb"]
    settings = {k: v for k, v in data["session"].items() if v}
    speed = data["generation"]
    generation = (
        {}
        if speed is None
        else {
            "prompt": f"{speed['prefill_tokens_per_second']:,.0f} tokens/s, the first token after "
            f"{speed['time_to_first_token_ms']:.0f} ms",
            "answer": f"{speed['decode_tokens_per_second']:,.1f} tokens/s",
        }
    )
    of = "a token" if generation else "latency"
    return facts_text(
        {
            **generation,
            of: f"{latency['p50']:.2f} ms median, {latency['p95']:.2f} ms 95th percentile, "
            f"{latency['min']:.2f} ms fastest of {data['runs']}",
            "load": f"{data['load_ms']:.0f} ms",
            "peak memory": None if peak is None else f"{peak} MB above the imports",
            "variant": f"{data['precision']}, {size(data['bytes'])}",
            "asked": ", ".join([*asked, data["device"]]),
            "nodes": ", ".join(f"{count} on {name}" for name, count in data["placement"].items()),
            **({"session": settings} if settings else {}),
            "machine": ", ".join(
                [
                    str(here.get("cpu", "unknown CPU")),
                    *here.get("cpu_features", ()),
                    f"onnxruntime {here.get('onnxruntime', 'of unknown version')}",
                ]
            ),
        }
    )


def checks_text(checks: Sequence[Mapping[str, Any]]) -> str:
    """The doctor's findings, one below the other."""
    names = max((len(check["name"]) for check in checks), default=0)
    return "\n".join(line for check in checks for line in _check_lines(check, names))


def _check_lines(check: Mapping[str, Any], names: int) -> list[str]:
    rest = {k: v for k, v in check.items() if k not in ("name", "ok")}
    mark = click.style("ok  ", fg="green") if check.get("ok") else click.style("--  ", fg="yellow")
    details = "; ".join(cell(k, v) for k, v in rest.items() if v not in (None, "", [], {}))
    first, *more = hanging(f"    {check['name']:<{names}}  ", details)
    return [mark + first[4:], *more]


MOST_NUMBERS = 6


def answer_text(item: str, answer: Any) -> str:
    """One answer under its input."""
    lead = click.style(item if len(item) <= 76 else item[:75] + "…", bold=True)
    return "\n".join([lead, *(f"  {line}" for line in _answer_lines(answer))])


def _answer_lines(answer: Any) -> list[str]:
    if hasattr(answer, "shape"):
        flat = answer.reshape(-1)
        shown = ", ".join(f"{v:.4f}" for v in flat[:MOST_NUMBERS].tolist())
        more = ", …" if flat.size > MOST_NUMBERS else ""
        return [f"{answer.dtype}{list(answer.shape)}: {shown}{more}"]
    if isinstance(answer, Mapping) and all(hasattr(v, "shape") for v in answer.values()):
        return [f"{name} {line}" for name, v in answer.items() for line in _answer_lines(v)]
    if isinstance(answer, Mapping) and "chunks" in answer:
        return chunk_lines(answer) or ["nothing was said"]
    if isinstance(answer, Mapping):
        rest = {k: v for k, v in answer.items() if k not in _LEAD}
        lead = "  ".join(_lead(answer[k]) for k in _LEAD if k in answer)
        return ["  ".join(part for part in (lead, _rest(rest)) if part)]
    if isinstance(answer, (list, tuple)):
        return [line for part in answer for line in _answer_lines(part)] or ["nothing found"]
    return [str(answer)]


_LEAD = (
    "score",
    "label",
    "entity_group",
    "entity",
    "answer",
    "token_str",
    "word",
    "generated_text",
)


def _lead(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _rest(values: Mapping[str, Any]) -> str:
    """What is beside the answer; a position or a token id is a name, without separators."""
    text = ", ".join(f"{label(k)} {v if type(v) is int else cell(k, v)}" for k, v in values.items())
    return click.style(text, dim=True) if text else ""

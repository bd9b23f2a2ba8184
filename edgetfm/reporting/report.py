"""What an export says to people: the report page, the model card, and the rows they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgetfm.budget import is_bound
from edgetfm.ledger import Ledger, Rung
from edgetfm.manifest import Manifest
from edgetfm.parity import Measures
from edgetfm.reporting.chart import Chart, draw
from edgetfm.reporting.explained import explain
from edgetfm.reporting.tried import Item, chosen_of, judged, metric_of, name_of
from edgetfm.reporting.words import cell, fact_rows, markdown_text, share, size
from edgetfm.stages import MODEL
from edgetfm.tasks import TASKS

if TYPE_CHECKING:
    from jinja2 import Environment

Tried = Sequence[Item]
"""Each variant that was tried, as `Tried.to_json` gives it."""


def report_page(manifest: Manifest, ledger: Ledger, tried: Tried, notes: Sequence[str] = ()) -> str:
    """report.html: one file without scripts, and without links to elsewhere."""
    chosen = chosen_of(manifest, tried)
    budget = manifest.budget or TASKS[manifest.task].budget
    return _render("report.html.j2", manifest, ledger, tried, notes, _chart(tried, budget, chosen))


def model_card(manifest: Manifest, ledger: Ledger, tried: Tried, notes: Sequence[str] = ()) -> str:
    """README.md of a bundle: a model card."""
    return _render("card.md.j2", manifest, ledger, tried, notes)


NO_CHART = "A chart of these is drawn where matplotlib is: pip install 'edgetfm[report]'."


def _chart(tried: Tried, budget: str, chosen: str) -> Chart | str | None:
    """The chart; the line that stands for it without matplotlib; None if there is nothing."""
    if not tried:
        return None
    try:
        return draw(tried, budget=budget, chosen=chosen)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        return NO_CHART


def _render(
    template: str,
    manifest: Manifest,
    ledger: Ledger,
    tried: Tried,
    notes: Sequence[str],
    chart: Chart | str | None = None,
) -> str:
    environment = page_environment(html=template.endswith(".html.j2"))
    chosen = chosen_of(manifest, tried)
    explained = [found for found in map(explain, tried) if found]
    return environment.get_template(template).render(
        name=model_name(manifest),
        manifest=manifest,
        task=TASKS[manifest.task],
        signature=manifest.signature,
        variants=variant_rows(manifest, tried),
        oracle=manifest.oracle,
        ledger=ledger,
        rungs=ledger_rows(ledger),
        tried=tried_table(tried),
        chosen=chosen,
        chart=chart,
        explained=sorted(explained, key=lambda e: e.name != chosen),
        notes=list(notes),
        rows=fact_rows,
    )


def model_name(manifest: Manifest) -> str:
    """The last part of the source's name."""
    return str(manifest.source.get("name") or manifest.family).rstrip("/").rpartition("/")[2]


def page_environment(*, html: bool) -> Environment:
    """Where the templates of pages are made; html: what is filled in is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("edgetfm.reporting", "."),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown_text
    return environment


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
    metric: str
    bound: str
    verdict: str
    note: str


def ledger_rows(ledger: Ledger) -> list[LedgerRow]:
    """A row for each output of each rung, and for a rung that is about a metric."""
    return [
        row
        for rung in ledger.rungs
        for row in (
            [_metric_row(rung)]
            if rung.metric
            else [_ledger_row(rung, output, m) for output, m in rung.measures.items()]
        )
    ]


def _ledger_row(rung: Rung, output: str, measures: Measures) -> LedgerRow:
    bound = rung.bound if is_bound(output, rung.bound_on) else ""
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
        metric="",
        bound=bound.replace(",", ", "),
        verdict="FAIL" if missed else "pass" if bound else "",
        note=rung.note,
    )


def _metric_row(rung: Rung) -> LedgerRow:
    values = [cell("", float(rung.metric[k])) for k in ("value", "reference") if k in rung.metric]
    return LedgerRow(
        name=rung.name,
        against=rung.against,
        output=str(rung.metric["name"]),
        max_error="",
        cosine="",
        worst_cosine="",
        agreement="",
        metric=" of ".join(values),
        bound=rung.bound,
        verdict="FAIL" if rung.missed else "pass" if rung.bound else "",
        note=rung.note,
    )


def variant_rows(manifest: Manifest, tried: Tried) -> list[dict[str, str]]:
    """The graphs that ship: precision, which one of several, file, size with external data."""
    chosen = chosen_of(manifest, tried)
    known = {
        str(item["precision"]): int(item["bytes"])
        for item in tried
        if name_of(item) == chosen or item["precision"] != manifest.default
    }
    rows = []
    for precision in manifest.precisions:
        for name, component in manifest.components.items():
            variant = component.variants[precision]
            names = [variant.file] + ([variant.data] if variant.data else [])
            listed = sum(manifest.files[n].bytes for n in names if n in manifest.files)
            rows.append(
                {
                    "precision": precision,
                    "graph": "" if name == MODEL else name,
                    "file": variant.file,
                    "size": size(listed or known.get(precision, 0)),
                }
            )
    return rows


def tried_table(tried: Tried) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of what was tried; a column that nobody fills is left out."""
    whole = next((int(t["bytes"]) for t in tried if t["precision"] == "fp32"), 0)
    rows = [_tried_row(item, whole) for item in tried]
    headers = [h for h in dict.fromkeys(h for r in rows for h in r) if any(r.get(h) for r in rows)]
    return headers, [[row.get(h, "") for h in headers] for row in rows]


def _tried_row(item: Item, whole: int) -> dict[str, str]:
    """One variant in words: what it gained, what it cost, and why it was tried."""
    latency, spread, use = item.get("latency"), item.get("spread"), item.get("use")
    measures, metric = judged(item), metric_of(item)
    time = "" if latency is None else f"{latency:.2f}x" + (f" ±{spread:.1%}" if spread else "")
    return {
        "variant": name_of(item),
        "size": size(item["bytes"]),
        "to fp32": f"{item['bytes'] / whole:.2f}x" if whole else "",
        "time to fp32": time,
        "cosine": share(float(measures["cosine"])) if "cosine" in measures else "",
        "worst cosine": share(float(measures["worst_cosine"])) if "cosine" in measures else "",
        "agreement": f"{float(measures['agreement']):.2%}" if "agreement" in measures else "",
        "KL": f"{float(measures['kl']):.2g}" if "kl" in measures else "",
        "perplexity": f"{float(measures['perplexity']):+.2%}" if "perplexity" in measures else "",
        "metric": "" if metric is None else f"{metric.name} {cell('', metric.value)}",
        "budget used": f"{use:.0%}" if use else "",
        "in budget": "yes" if item.get("inside") else "no",
        "missed": "; ".join(item.get("missed", ())),
        "why": str(item.get("note") or ""),
    }

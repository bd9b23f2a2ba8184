"""All devices a bundle was run on, in one table: for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgetfm.ledger import Ledger, Rung
from edgetfm.manifest import Manifest
from edgetfm.reporting.device_chart import draw_devices, spots
from edgetfm.reporting.report import model_name, page_environment
from edgetfm.reporting.words import share, size

MEANING = {
    "measured": "run on the thing itself: its answers and its times are real",
    "emulated": "run in an emulator or simulator: its answers are real, times are not shown",
    "static": "not run: what its provider would take, by the operators it lists",
}


def device_table(ledger: Ledger, sizes: Mapping[str, int]) -> tuple[list[str], list[list[str]]]:
    """Headers and a row for each variant on each device; `sizes`: variant -> bytes."""
    headers = [
        "device",
        "variant",
        "size",
        "is",
        "to PyTorch",
        "to itself",
        "nodes",
        "load",
        "call",
        "",
    ]
    rows = []
    for said in ledger.devices:
        rungs = [r for r in ledger.rungs if r.name == f"{said['precision']} on {said['device']}"]
        load, call = (
            said[key] if said["proves"] == "measured" else None for key in ("load_ms", "latency_ms")
        )
        rows.append(
            [
                said["device"],
                said["precision"],
                size(sizes[said["precision"]]),
                said["proves"],
                _closest(rungs, own=False),
                _closest(rungs, own=True),
                _nodes(said),
                "" if load is None else f"{load:.0f} ms",
                "" if call is None else f"{call:.3g} ms" if call < 100 else f"{call:.0f} ms",
                _verdict(said, rungs),
            ]
        )
    return headers, rows


def _closest(rungs: list[Rung], *, own: bool) -> str:
    """The worst of its outputs, against its own answers on the exporting CPU, or the oracle's."""
    held = [r for r in rungs if (r.against == "the exporting CPU") == own]
    measures = [m for r in held for m in r.measures.values()]
    if not measures:
        return ""
    if own:
        return f"{max(m.max_error for m in measures):.1e}"
    return share(min(m.cosine for m in measures))


def _nodes(said: Mapping[str, Any]) -> str:
    if not said["placement"]:
        return ""
    named = (
        f"{count} {name.removesuffix('ExecutionProvider')}"
        for name, count in said["placement"].items()
    )
    return ", ".join(named)


def _verdict(said: Mapping[str, Any], rungs: list[Rung]) -> str:
    if said["error"] or not all(r.passed for r in rungs):
        return "FAIL"
    return "pass" if rungs else ""


def device_notes(ledger: Ledger) -> list[str]:
    """A line for every device that failed, or would not take some of it."""
    notes = []
    for said in ledger.devices:
        what = f"{said['precision']} on {said['device']}"
        if said["error"]:
            notes.append(f"{what}: {said['error']}")
        if said.get("would_refuse"):
            notes.append(f"{what}: would not take {said['would_refuse']}")
    notes += [
        f"{r.name}: {'; '.join(r.missed)}" + (f" ({r.note})" if r.note else "")
        for r in ledger.rungs
        if r.missed
    ]
    return notes


def devices_page(manifest: Manifest, ledger: Ledger, sizes: Mapping[str, int]) -> str:
    """The table, and a drawing of it, as a page of HTML that stands alone."""
    headers, rows = device_table(ledger, sizes)
    runtimes = {str(d["device"]): str(d["runtime"]) for d in ledger.devices if d["runtime"]}
    return (
        page_environment(html=True)
        .get_template("devices.html.j2")
        .render(
            name=model_name(manifest),
            passed=ledger.passed,
            headers=headers,
            rows=rows,
            chart=draw_devices(spots(ledger), manifest.budget),
            notes=device_notes(ledger),
            meaning={k: v for k, v in MEANING.items() if any(r[3] == k for r in rows)},
            runtimes=runtimes,
            machine=ledger.machine,
        )
    )

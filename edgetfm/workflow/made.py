"""What export and quantize leave: a manifest in the bundle, a result for the caller."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetfm.bundle import Bundle
from edgetfm.ledger import Ledger
from edgetfm.manifest import Manifest
from edgetfm.runtime.machine import runtime_version
from edgetfm.search.draft import Draft

if TYPE_CHECKING:
    from edgetfm.foreign.model import Foreign
    from edgetfm.sources import Source


@dataclass(frozen=True)
class ExportResult:
    """What `export_model` and `quantize_bundle` made. `tried` describes every variant tried."""

    path: Path
    task: str
    family: str
    route: str
    variant: str
    bytes: int
    ledger: Ledger
    tried: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The form `--json` prints."""
        data = {k: getattr(self, k) for k in self.__dataclass_fields__}
        return data | {"path": str(self.path), "ledger": self.ledger.to_json()}


def new_manifest(opened: Source | Foreign, family: str, draft: Draft, chosen: str) -> Manifest:
    """What a new bundle says of itself."""
    return Manifest(
        task=opened.task,
        family=family,
        route=opened.route,
        default=chosen,
        components=draft.components,
        source=opened.provenance,
        preprocessing=opened.preprocessing,
        labels=opened.labels,
        budget=draft.budget,
        calibration=draft.evidence.facts,
        versions=versions(),
        licence=opened.licence,
        row_by_row=draft.subject.row_by_row,
        generation=opened.generation,
    )


def made_result(bundle: Bundle, draft: Draft, started: float) -> ExportResult:
    """What the caller gets."""
    manifest = bundle.manifest
    return ExportResult(
        path=bundle.root,
        task=manifest.task,
        family=manifest.family,
        route=manifest.route,
        variant=manifest.default,
        bytes=sum(entry.bytes for entry in manifest.files.values()),
        ledger=draft.ledger,
        tried=tuple(tried.to_json() for tried in draft.tried),
        notes=tuple(draft.notes),
        seconds=time.perf_counter() - started,
    )


def versions() -> dict[str, str]:
    """The versions of what takes part in making a graph."""
    found = {}
    for name in ("edgetfm", "torch", "transformers", "onnx", "onnx-ir", "onnxscript"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"onnxruntime": runtime_version() or "absent"}

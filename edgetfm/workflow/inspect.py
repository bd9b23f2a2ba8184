"""What a bundle says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgetfm.bundle import open_bundle
from edgetfm.errors import BundleError
from edgetfm.search.goal import AnyPath


def inspect_bundle(path: AnyPath) -> dict[str, Any]:
    """What a bundle is: its manifest, the bytes of each variant, and its ledger if it has one.

    variant_bytes: of all graphs together; component_bytes: of each.
    """
    bundle = open_bundle(path)
    ledger = bundle.path("parity.json")
    return bundle.manifest.to_json() | {
        "path": str(path),
        "variant_bytes": {p: bundle.variant_bytes(p) for p in bundle.manifest.precisions},
        "component_bytes": {
            name: {p: bundle.variant_bytes(p, name) for p in component.variants}
            for name, component in bundle.manifest.components.items()
        },
        "total_bytes": sum(e.bytes for e in bundle.manifest.files.values()),
        "ledger": _read_ledger(ledger),
    }


def _read_ledger(path: Path) -> dict[str, Any] | None:
    """The ledger as it was written, None if there is none. It is not hashed: it may be damaged."""
    if not path.is_file():
        return None
    try:
        ledger: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rungs = ledger["rungs"]
        whole = all(isinstance(r["bound"], str) and "passed" in r for r in rungs)
    except (ValueError, KeyError, TypeError, RecursionError, OSError):
        whole = False
    if not whole or not isinstance(ledger.get("machine"), dict):
        raise BundleError(f"{path} is damaged: remove it, or export the model again")
    return ledger

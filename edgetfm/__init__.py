"""Take PyTorch Transformers to the edge, and prove that they still answer the same.

The verbs of the command line in Python; each is imported on first use, so that
`import edgetfm` stays light:

    from edgetfm import load, pipeline, export_model, quantize_bundle, verify_bundle, bench_bundle
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetfm.runtime import load as load
    from edgetfm.runtime import pipeline as pipeline
    from edgetfm.workflow.bench import bench_bundle as bench_bundle
    from edgetfm.workflow.compare import compare_bundles as compare_bundles
    from edgetfm.workflow.export import export_model as export_model
    from edgetfm.workflow.quantize import quantize_bundle as quantize_bundle
    from edgetfm.workflow.train import train_model as train_model
    from edgetfm.workflow.verify import verify_bundle as verify_bundle

_HOME = {
    "load": "edgetfm.runtime",
    "pipeline": "edgetfm.runtime",
    "export_model": "edgetfm.workflow.export",
    "quantize_bundle": "edgetfm.workflow.quantize",
    "verify_bundle": "edgetfm.workflow.verify",
    "bench_bundle": "edgetfm.workflow.bench",
    "compare_bundles": "edgetfm.workflow.compare",
    "train_model": "edgetfm.workflow.train",
}

__all__ = [
    "bench_bundle",
    "compare_bundles",
    "export_model",
    "load",
    "pipeline",
    "quantize_bundle",
    "train_model",
    "verify_bundle",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'edgetfm' has no attribute '{name}'")


def _version() -> str:
    # importlib.metadata takes a third of the time that `edgetfm --help` has.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("edgetfm")
    except PackageNotFoundError:  # a bare checkout
        return "0.1.0"

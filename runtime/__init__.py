"""Bundles run with numpy and onnxruntime: no torch, no transformers.

`load(path).run(...)` takes arrays; `pipeline(path)(...)` takes text and images.
"""

from __future__ import annotations

from edgetfm.runtime.model import Model, load
from edgetfm.runtime.pipelines import Pipeline, pipeline

__all__ = ["Model", "Pipeline", "load", "pipeline"]

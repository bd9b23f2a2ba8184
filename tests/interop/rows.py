"""Which bundles are opened in which other programs; the tests and the docs read it here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.decoders import DECODERS

ROOT = Path(__file__).parents[2]
ENVS = ROOT / "benchmarks" / "envs"

PRECISIONS = ("fp32", "int8", "int8-weight", "int8-static", "int4", "fp16")
"""Of MiniLM; a16w8 is for NPUs."""


@dataclass(frozen=True)
class Case:
    """A model for one task: Optimum's class that opens it, and the pipeline of Transformers.js."""

    model: str
    task: str
    precisions: tuple[str, ...]
    optimum: str | None
    pipeline: str | None

    def __str__(self) -> str:
        return f"{self.model}-{self.task}"


MINILM = Case(
    "MiniLM",
    "feature-extraction",
    PRECISIONS,
    "ORTModelForFeatureExtraction",
    "feature-extraction",
)
DIGITS = Case(
    "vit trained by edgetfm",
    "image-classification",
    ("fp32",),
    "ORTModelForImageClassification",
    "image-classification",
)
MATCHES = Case(
    "clip of edgetfm",
    "zero-shot-image-classification",
    ("fp32",),
    None,
    "zero-shot-image-classification",
)
CASES = (
    MINILM,
    DIGITS,
    MATCHES,
    *(
        Case(model, task, precisions, optimum, task)
        for model, task, precisions, optimum in (
            (
                "bert",
                "text-classification",
                ("fp32", "int8"),
                "ORTModelForSequenceClassification",
            ),
            ("roberta", "text-classification", ("fp32",), "ORTModelForSequenceClassification"),
            ("distilbert", "text-classification", ("fp32",), "ORTModelForSequenceClassification"),
            ("bert", "token-classification", ("fp32",), "ORTModelForTokenClassification"),
            ("bert", "question-answering", ("fp32",), "ORTModelForQuestionAnswering"),
            ("bert", "fill-mask", ("fp32",), "ORTModelForMaskedLM"),
            ("mpnet", "fill-mask", ("fp32",), "ORTModelForMaskedLM"),
            ("vit", "image-classification", ("fp32", "int8"), "ORTModelForImageClassification"),
            ("deit", "image-classification", ("fp32",), "ORTModelForImageClassification"),
            ("vit", "image-feature-extraction", ("fp32",), None),
            *((m, "text-generation", ("fp32",), None) for m in DECODERS if m != "mixtral"),
        )
    ),
    # Transformers.js has no class for it; onnxruntime-genai runs it.
    Case("mixtral", "text-generation", ("fp32",), None, None),
)

RUNTIMES = ("1.29", "1.30", "1.31")
"""The versions of ONNX Runtime that MiniLM's vectors are replayed in."""


def pinned(environment: str, package: str) -> str:
    """The version of a package in envs/ENVIRONMENT.txt."""
    text = (ENVS / f"{environment}.txt").read_text("utf-8")
    found = re.search(rf"^{re.escape(package)}==(\S+)$", text, re.MULTILINE)
    assert found is not None, f"{package} is not in {environment}.txt"
    return found.group(1)

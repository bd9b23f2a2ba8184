"""What a bundle must serve: which kind of processor likes which recipe, in one table."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edgetfm.errors import InputError, listed
from edgetfm.quantize.recipes import Precision
from edgetfm.runtime.machine import cpu_features


@dataclass(frozen=True)
class Target:
    """A kind of processor.

    likes: the precisions worth trying, the most promising first. refuses: precision -> why it is
    of no use there. saturates: whether sums of two products of a u8 activation and an s8 weight
    must fit in 16 bits, so that weights may have to be pair-safe.
    """

    name: str
    what: str
    likes: tuple[Precision, ...]
    refuses: Mapping[Precision, str] = field(default_factory=dict)
    saturates: bool = False


_A16 = "onnxruntime's CPU kernels multiply 16-bit activations in float"
_CUDA = "onnxruntime's CUDA provider hands it back to the CPU"
_FIXED = "it needs the ranges of activations fixed in the graph"

TARGETS: dict[str, Target] = {
    row.name: row
    for row in (
        Target(
            "x86-vnni",
            "x86 CPUs with VNNI: Intel since Ice Lake, AMD since Zen 4",
            likes=("int8", "int8-weight", "int8-static", "int4"),
            refuses={"a16w8": _A16},
        ),
        Target(
            "x86-avx2",
            "x86 CPUs with AVX2 or AVX-512 and without VNNI: most made from 2013 to 2020",
            likes=("int8", "int8-weight", "int8-static", "int4"),
            refuses={"a16w8": _A16},
            saturates=True,
        ),
        Target(
            "x86-sse",
            "older x86 CPUs, without AVX2",
            likes=("int8", "int8-weight", "int8-static", "int4"),
            refuses={"a16w8": _A16},
        ),
        Target(
            "arm64",
            "64-bit ARM CPUs: phones, Apple, Graviton, Raspberry Pi",
            likes=("int8", "int8-weight", "int8-static", "int4"),
            refuses={"a16w8": _A16},
        ),
        Target(
            "cuda",
            "NVIDIA GPUs",
            likes=("fp16", "int8-weight", "int4"),
            refuses={"int8": _CUDA, "int8-static": _CUDA, "a16w8": _CUDA},
        ),
        Target(
            "htp",
            "Qualcomm Hexagon NPUs",
            likes=("a16w8", "int8-static"),
            refuses={"int8": _FIXED, "int8-weight": _FIXED, "int4": _FIXED},
        ),
        Target(
            "nnapi",
            "Android's NNAPI",
            likes=("int8-static",),
            refuses={
                "int8": _FIXED,
                "int8-weight": _FIXED,
                "int4": _FIXED,
                "a16w8": "it has no 16-bit activations",
            },
        ),
    )
}


def parse_targets(text: str) -> tuple[Target, ...]:
    """The targets named in 'x86-avx2,arm64', in order; InputError lists all that are unknown."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in TARGETS]
    if unknown or not names:
        given = [f"unknown target '{name}'" for name in unknown] or ["no target is named"]
        known = "\n".join(f"  {row.name:<9} {row.what}" for row in TARGETS.values())
        raise InputError(f"{listed(given)}\ntargets are, several with commas between:\n{known}")
    return tuple(TARGETS[name] for name in names)


def objections(precision: Precision, targets: Iterable[Target]) -> list[str]:
    """Why some of the targets cannot use a precision, a line each."""
    return [
        f"{target.name} refuses {precision}: {target.refuses[precision]}"
        for target in targets
        if precision in target.refuses
    ]


def liked(names: Iterable[str]) -> list[Precision]:
    """The precisions that every one of these targets can use, as the first of them likes them.

    Without names, those of an x86 CPU with VNNI.
    """
    targets = [TARGETS[name] for name in names] or [TARGETS["x86-vnni"]]
    return [p for p in targets[0].likes if not objections(p, targets)]


def this_machine() -> str | None:
    """The name of the target that this machine's CPU is, None where that is not known."""
    features = cpu_features()
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    if features is None or platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    if {"avx512_vnni", "avx_vnni"} & set(features):
        return "x86-vnni"
    return "x86-avx2" if "avx2" in features else "x86-sse"

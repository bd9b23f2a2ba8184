"""The content of edgetfm.json: what a bundle holds, and what each of its files must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import NoneType
from typing import Any, Self

from edgetfm.errors import BundleError, listed
from edgetfm.settings import problems_of
from edgetfm.signature import Signature
from edgetfm.stages import DECODER, ENCODER, MODEL, whole
from edgetfm.tasks import TASKS

SCHEMA = 1
MANIFEST = "edgetfm.json"
EVIDENCE = ("parity.json", "report.html", "README.md")
"""What may grow after the bundle is made, and so is not hashed."""

NPU = "npu/"
"""Where forms of a variant are that one NPU alone takes."""

ONNX_FILE = "the ONNX file"
"""The oracle of a graph that was not exported here."""

SUFFIXES = {
    "fp32": "",
    "fp16": "_fp16",
    "int8": "_int8",
    "int8-weight": "_quantized",
    "int4": "_q4",
    "int8-static": "_uint8",
    "a16w8": "_a16w8",
}
"""Precision -> the suffix of its file: the one that Transformers.js looks for, for all that have
one there (`neighbours.DTYPES`)."""


def file_of(component: str, precision: str = "fp32") -> str:
    """Where a bundle has a component's graph, as Optimum and Transformers.js look for it."""
    return f"onnx/{component}{SUFFIXES[precision]}.onnx"


@dataclass(frozen=True)
class Variant:
    """One precision of a graph: its file, its external data if any, and how it was made."""

    file: str
    data: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Component:
    """One graph of the model in one or more precisions; edgetfm.stages says what it is called."""

    signature: Signature
    variants: dict[str, Variant]


@dataclass(frozen=True)
class FileEntry:
    """What a file must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The content of edgetfm.json.

    source: kind, name and hash of what was exported; route: `native` or `adapter`.
    preprocessing: {"tokenizer": {...}} or {"image": {...}}, what edgetfm.runtime needs to make
    the inputs. session: onnxruntime settings chosen by measuring, for anyone to use:
    {"disabled_optimizers": [...], "config_entries": {...}}. row_by_row: whether a row of a batch
    answers the same alone, without its padding; graphs that were made elsewhere may not.
    generation: of decoders {"context", "bos", "eos", "pad", "layers", "kv_heads", "head_size",
    "window"}: the longest text, the special tokens, the shape of the cache.
    """

    task: str
    family: str
    route: str
    default: str
    components: dict[str, Component]
    source: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    session: dict[str, Any] = field(default_factory=dict)
    budget: str = ""
    calibration: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    licence: str | None = None
    row_by_row: bool = True
    generation: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)

    @property
    def signature(self) -> Signature:
        """What the model takes and gives: its one graph, or an encoder-decoder as a whole."""
        if MODEL in self.components:
            return self.components[MODEL].signature
        return whole({name: c.signature for name, c in self.components.items()})

    @property
    def precisions(self) -> tuple[str, ...]:
        """The variants that it has, of every component."""
        return tuple(next(iter(self.components.values())).variants)

    @property
    def oracle(self) -> str:
        """Who gave the answers that the bundle's are held against."""
        return ONNX_FILE if self.source.get("kind") == "onnx" else "PyTorch"

    def to_json(self) -> dict[str, Any]:
        """The form on disk."""
        data: dict[str, Any] = {"schema": SCHEMA}
        for name in self.__dataclass_fields__:
            data[name] = getattr(self, name)
        data["components"] = {
            name: {
                "signature": c.signature.to_json(),
                "variants": {p: asdict(v) for p, v in c.variants.items()},
            }
            for name, c in self.components.items()
        }
        data["files"] = {name: asdict(entry) for name, entry in sorted(self.files.items())}
        data["labels"] = list(self.labels)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; a BundleError says what is wrong."""
        schema = data.get("schema") if isinstance(data, Mapping) else None
        if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
            raise BundleError(f"{MANIFEST} has no valid 'schema' number: this is not a bundle")
        if schema > SCHEMA:
            raise BundleError(
                f"the bundle has schema {schema}, this edgetfm reads up to {SCHEMA}: upgrade it"
            )
        try:
            values = {k: _typed(k, data[k]) for k in cls.__dataclass_fields__ if k in data}
            values["components"] = {
                name: Component(
                    Signature.from_json(c["signature"]),
                    {p: _variant(v) for p, v in c["variants"].items()},
                )
                for name, c in values["components"].items()
            }
            values["files"] = {
                k: FileEntry(_typed("sha256", v["sha256"], k), _typed("bytes", v["bytes"], k))
                for k, v in values["files"].items()
            }
            values["labels"] = tuple(_is(label, str) for label in values.get("labels", ()))
            manifest = cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"{MANIFEST} is malformed: {type(error).__name__} {error}") from error
        manifest._validate()
        return manifest

    def _validate(self) -> None:
        problems = []
        if self.task not in TASKS:
            problems.append(f"unknown task '{self.task}'")
        if {*self.components} not in ({MODEL}, {ENCODER, DECODER}):
            named = ", ".join(self.components) or "none"
            problems.append(
                f"its components are {named}, expected '{MODEL}' alone, or '{ENCODER}' and "
                f"'{DECODER}'"
            )
        elif self.task in TASKS:
            problems += self._misfits()
        problems += [f"session: {problem}" for problem in problems_of(self.session)]
        for name, component in self.components.items():
            if self.default not in component.variants:
                problems.append(f"{name} has no variant '{self.default}', which is the default")
            for variant in component.variants.values():
                wanted = (variant.file,) if variant.data is None else (variant.file, variant.data)
                problems += [
                    f"{f} is not in the list of files" for f in wanted if f not in self.files
                ]
        if problems:
            raise BundleError(f"{MANIFEST} is malformed:\n{listed(problems)}")

    def _misfits(self) -> list[str]:
        """What keeps its graphs from doing its task, and from being one model."""
        signature = self.signature
        differ = {frozenset(c.variants) for c in self.components.values()}
        problems = TASKS[self.task].on(signature, self.preprocessing).misfits(signature)
        if len(differ) > 1:
            problems.append("its components have different variants")
        return problems


_TEXTS = ("task", "family", "route", "default", "budget")
_TYPES: dict[str, tuple[type, ...]] = dict.fromkeys((*_TEXTS, "sha256"), (str,)) | {
    "bytes": (int,),
    "labels": (list, tuple),
    "licence": (str, NoneType),
    "row_by_row": (bool,),
}


def _typed(name: str, value: Any, of: str = "") -> Any:
    try:
        return _is(value, _TYPES.get(name, (dict,)))
    except TypeError as error:
        raise TypeError(f"'{name}'{f' of {of!r}' if of else ''} {error}") from error


def _is(value: Any, kind: type | tuple[type, ...]) -> Any:
    """The value, or a TypeError if it is of another type."""
    if not isinstance(value, kind) or (kind in (int, (int,)) and isinstance(value, bool)):
        raise TypeError(f"is {value!r:.60}")
    return value


def _variant(data: Any) -> Variant:
    variant = Variant(**data)
    _is(variant.file, str)
    _is(variant.data, (str, NoneType))
    _is(variant.recipe, dict)
    return variant

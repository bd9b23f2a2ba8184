"""GGUF files: what one holds, and its weights as float32, one tensor at a time.

llama.cpp's names, permutations and configs become Hugging Face's through transformers' own
mappings, so that a family's `from_hf` reads a GGUF file as it reads a folder.
"""

from __future__ import annotations

import functools
import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from edgetfm.errors import MissingExtra, SourceError
from edgetfm.sources._gguf_metadata import (
    gguf_with,
    read_metadata,
    text_of,
    without_vocabulary,
)
from edgetfm.sources._reference import quiet_transformers
from edgetfm.sources._weights import check_finite

_KEPT_BY = {"Q4_0": "int4", "Q8_0": "int8-weight"}
"""Precisions whose blocks hold those of a kind exactly."""
_FLOAT_KINDS = ("F64", "F32", "F16", "BF16")
_SPLIT = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass(frozen=True)
class GGUFModel:
    """One GGUF file. Weights stay in the file, which is mapped, until they are asked for.

    architecture: as llama.cpp calls it. config: with Hugging Face's keys. kinds: the type of each
    weight as the file has it ("Q4_1", "F32", ...), by Hugging Face's name; a tied head has none.
    _reader: what the metadata was read with, until the tokenizer is made of it; it is large.
    _in_use: weights as `tensor` gave them, as long as somebody has them.
    """

    path: Path
    architecture: str
    config: dict[str, Any]
    kinds: dict[str, str]
    licence: str | None = None
    _found: dict[str, Any] = field(default_factory=dict, repr=False)
    _processor: Any = field(default=None, repr=False)
    _reader: list[Any] = field(default_factory=list, repr=False)
    _in_use: WeakValueDictionary[str, NDArray[np.float32]] = field(
        default_factory=WeakValueDictionary, repr=False
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The weights, by Hugging Face's names."""
        return tuple(self.kinds)

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One weight, dequantized, in the layout of Hugging Face; all who have it share it.

        An export asks three times: for the oracle, for its own module and for the graph.
        """
        if (shared := self._in_use.get(name)) is not None:
            return shared
        from gguf import dequantize

        found = self._found[name]
        values = self._in_layout(name, dequantize(found.data, found.tensor_type))
        made: NDArray[np.float32] = np.require(values, np.float32, ["C", "W"])
        self._in_use[name] = made
        return made

    def packed(self, name: str) -> NDArray[np.uint8]:
        """One quantized weight as the file has it: rows of blocks, [rows, bytes of a row].

        The rows are in the order of `tensor`; what a block holds, ggml's sources say by its kind.
        Raises SourceError for weights that are floats, or whose rows Hugging Face has as columns.
        """
        found = self._found[name]
        shape = tuple(int(n) for n in reversed(found.shape))
        if self.kinds[name] not in _FLOAT_KINDS and len(shape) == 2:
            rows = np.broadcast_to(np.arange(shape[0])[:, None], shape)
            order = self._in_layout(name, rows)
            if order.shape == shape and (order == order[:, :1]).all():
                return np.asarray(found.data[order[:, 0]], dtype=np.uint8)
        raise SourceError(f"{name} of {self.path.name} has no rows of blocks")

    def tensor_shape(self, name: str) -> tuple[int, ...]:
        """The shape of `tensor`, without reading it."""
        shape = tuple(int(n) for n in reversed(self._found[name].shape))
        return self._in_layout(name, np.broadcast_to(np.zeros((), np.float32), shape)).shape

    def _in_layout(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """llama.cpp permutes rows and transposes; transformers knows where."""
        kept: dict[str, Any] = {"tensors": {}}
        done = self._processor.process(
            weights=values, name=self._found[name].name, parsed_parameters=kept
        )
        if done.name is None:  # it was put aside under its other name
            return np.asarray(next(iter(kept["tensors"].values())))
        return np.asarray(done.weights)

    def weights(self) -> dict[str, torch.Tensor]:
        """All weights in float32, by Hugging Face's names: as large as the float checkpoint.

        Raises SourceError that lists those with numbers that are not finite.
        """
        weights = {name: torch.from_numpy(self.tensor(name)) for name in self.names}
        check_finite(weights)
        return weights

    @property
    def note(self) -> str:
        """What the user should hear before it is quantized again, '' of a float file."""
        rounded = Counter(
            {k: n for k, n in self._elements().items() if k not in _FLOAT_KINDS}
        ).most_common(1)
        if not rounded:
            return ""
        kind = rounded[0][0]
        bits = re.search(r"\d+", kind)
        how = f"{bits.group()}-bit ({kind})" if bits else kind
        if kept := _KEPT_BY.get(kind):
            return f"this checkpoint is already {how}: {kept} keeps it, others round a second time"
        return f"this checkpoint is already {how}: quantizing it again rounds a second time"

    def _elements(self) -> Counter[str]:
        count: Counter[str] = Counter()
        for name, kind in self.kinds.items():
            count[kind] += int(self._found[name].n_elements)
        return count

    def tokenizer_files(self) -> dict[str, bytes]:
        """tokenizer.json, tokenizer_config.json and chat_template.jinja, made by transformers."""
        from transformers import AutoTokenizer

        with tempfile.TemporaryDirectory(prefix="edgetfm-") as folder, quiet_transformers():
            reader = self._reader.pop() if self._reader else read_metadata(self.path)
            try:
                with gguf_with(GGUFReader=lambda _file: reader):
                    tokenizer = AutoTokenizer.from_pretrained(
                        self.path.parent, gguf_file=self.path.name, local_files_only=True
                    )
                tokenizer.save_pretrained(folder)
            except Exception as error:  # whatever a file makes transformers raise
                raise SourceError(
                    f"transformers cannot read the tokenizer of {self.path}: {error}"
                ) from error
            wanted = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
            files = {n: Path(folder) / n for n in wanted if (Path(folder) / n).is_file()}
            return {name: file.read_bytes() for name, file in files.items()}


def is_gguf(place: Path) -> bool:
    """Whether this is a GGUF file, or a folder that has such files and no other weights."""
    if place.suffix == ".gguf":
        return True
    if not place.is_dir() or any(place.glob("*.safetensors")):
        return False
    return any(place.glob("*.gguf"))


def gguf_file(place: Path) -> Path:
    """The file at a path: itself, or the only one in a folder; a SourceError lists several."""
    if not place.is_dir():
        if not place.is_file():
            raise SourceError(f"no model at {place}: the file does not exist")
        return place
    found = sorted(place.glob("*.gguf"))
    if len(found) != 1:
        names = ", ".join(f.name for f in found) or "none"
        raise SourceError(f"{place} has several GGUF files; give the path of one: {names}")
    return found[0]


def open_gguf(place: Path) -> GGUFModel:
    """The model in a GGUF file, or in a folder with one, if transformers reads its architecture.

    Raises SourceError for files that are split, damaged or of an architecture that is not known,
    MissingExtra without the package gguf.
    """
    file = gguf_file(place)
    if _SPLIT.search(file.stem):
        raise SourceError(
            f"{file.name} is one part of a split GGUF file: join them first with "
            "`llama-gguf-split --merge FIRST_PART WHOLE`"
        )
    reader = read_metadata(file)
    architecture = text_of(reader, "general.architecture")
    settings = without_vocabulary(reader, architecture)
    with gguf_with(GGUFReader=lambda _file: settings):
        config = _config(file, architecture)
    model = _empty_model(config, file)
    processor, mapped = _mapping(model, config.to_dict(), architecture, file)
    by_name = {tensor.name: tensor for tensor in reader.tensors}
    found = {hf: by_name[own] for own, hf in mapped.items() if own in by_name}
    left = sorted(by_name.keys() - mapped.keys() - {"rope_freqs.weight"})
    if left or len(found) != len(by_name.keys() & mapped.keys()):
        raise SourceError(
            f"{file} holds weights that no model of transformers has one by one, as mixtures of "
            f"experts do: {', '.join(left[:5]) or 'experts stacked in one tensor'}"
        )
    return GGUFModel(
        path=file,
        architecture=architecture,
        config=config.to_dict(),
        kinds={name: str(tensor.tensor_type.name) for name, tensor in found.items()},
        licence=text_of(reader, "general.license") or None,
        _found=found,
        _processor=processor,
        _reader=[reader],
    )


def _config(file: Path, architecture: str) -> Any:
    """transformers' config of the file's metadata."""
    from transformers import AutoConfig
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    with quiet_transformers():
        try:
            return AutoConfig.from_pretrained(
                file.parent, gguf_file=file.name, local_files_only=True
            )
        except ImportError as error:
            raise MissingExtra("gguf", "reading GGUF files") from error
        except Exception as error:  # whatever a file makes transformers raise
            if "not supported yet" not in str(error):
                raise SourceError(f"transformers cannot read {file}: {error}") from error
            known = sorted(set(GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer"})
            raise SourceError(
                f"{file} has the architecture {architecture!r}, which transformers does not read "
                f"from GGUF; it reads {', '.join(known)}. Give the float checkpoint instead"
            ) from error


def _empty_model(config: Any, file: Path) -> Any:
    """The model without memory: its names are those that weights are wanted by."""
    from transformers import AutoModelForCausalLM

    try:
        with quiet_transformers(), torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except Exception as error:  # no such model, or a config that describes none
        reason = next(iter(str(error).splitlines()), "")
        raise SourceError(f"{file} is no causal language model: {reason}") from error


def _mapping(
    model: Any, config: dict[str, Any], architecture: str, file: Path
) -> tuple[Any, dict[str, str]]:
    """What undoes llama.cpp's layout, and its names of weights to Hugging Face's."""
    from gguf import get_tensor_name_map
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
    )

    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=config)
    try:
        with gguf_with(get_tensor_name_map=functools.cache(get_tensor_name_map)):
            return processor, get_gguf_hf_weights_map(model, processor)
    except NotImplementedError as error:
        raise SourceError(f"the package gguf does not know the model of {file}: {error}") from error

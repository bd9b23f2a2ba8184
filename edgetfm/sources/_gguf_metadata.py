"""The metadata of a GGUF file, read once for all who ask for it: ourselves and transformers."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import MissingExtra, SourceError


def read_metadata(file: Path) -> Any:
    """The GGUFReader of a file, whose weights it maps; MissingExtra without the package gguf.

    SourceError for a file that is no whole one.
    """
    try:
        from gguf import GGUFReader, GGUFValueType
    except ImportError as error:
        raise MissingExtra("gguf", "reading GGUF files") from error

    class Bounded(GGUFReader):
        """Reads nothing beyond the end: where a count is wrong, numpy would give empty slices.

        Lists of words and of numbers, as long as a vocabulary, are cut up where they lie.
        """

        def _get(self, offset: int, dtype: Any, count: int = 1, *more: Any, **named: Any) -> Any:
            if isinstance(self.data, np.memmap):  # a slice of one costs ten of an array
                self.data: Any = self.data.view(np.ndarray)
            if int(offset) + np.dtype(dtype).itemsize * int(count) > len(self.data):
                raise ValueError(f"it ends at byte {len(self.data)}, in the middle")
            return super()._get(offset, dtype, count, *more, **named)

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if int(raw_type) != GGUFValueType.ARRAY:
                return super()._get_field_parts(orig_offs, raw_type)
            kind, count = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
            start, many, types = orig_offs + 12, int(count[0]), [GGUFValueType.ARRAY]
            item = GGUFValueType(int(kind[0]))
            if item == GGUFValueType.STRING:
                words, end = self._words(start, many)
                places = list(range(3, 2 + 2 * many, 2))
                return end - orig_offs, [kind, count, *words], places, types + [item] * bool(many)
            if item not in self.gguf_scalar_to_np:  # lists of lists
                return super()._get_field_parts(orig_offs, raw_type)
            values = self._get(start, self.gguf_scalar_to_np[item], many)
            parts = [kind, count, *values.reshape(-1, 1)]
            places = list(range(2, 2 + many))
            return 12 + values.nbytes, parts, places, types + [item] * bool(many)

        def _words(self, start: int, count: int) -> tuple[list[NDArray[Any]], int]:
            """The length and the bytes of each of so many words, and where they end."""
            found: list[NDArray[Any]] = []
            size = np.dtype(np.uint64).newbyteorder(self.byte_order)
            for _ in range(count):
                word = start + 8
                if word > len(self.data):
                    raise ValueError(f"it ends at byte {len(self.data)}, in the middle")
                length = self.data[start:word].view(size)
                start = word + int(length[0])
                if start > len(self.data):
                    raise ValueError(f"it ends at byte {len(self.data)}, in the middle")
                found += (length, self.data[word:start])
            return found, start

    try:
        return Bounded(file)
    except Exception as error:  # it reads on until something does not fit
        raise SourceError(
            f"{file} is not a whole GGUF file ({error}): download it again"
        ) from error


def without_vocabulary(reader: Any, architecture: str) -> Any:
    """A reader that lacks the tokenizer's lists, unless their length tells a config's vocabulary.

    transformers makes an object of every word, and wants none of them for a config.
    """
    from gguf import GGUFValueType
    from transformers.modeling_gguf_pytorch_utils import GGUF_TO_TRANSFORMERS_MAPPING

    keys = GGUF_TO_TRANSFORMERS_MAPPING["config"].get(architecture, {})
    if "vocab_size" not in keys or f"{architecture}.vocab_size" not in reader.fields:
        return reader
    few = copy.copy(reader)
    few.fields = {
        name: field
        for name, field in reader.fields.items()
        if not (name.startswith("tokenizer.") and field.types[:1] == [GGUFValueType.ARRAY])
    }
    return few


@contextlib.contextmanager
def gguf_with(**others: Any) -> Iterator[None]:
    """The package gguf with `others` under its names, which transformers imports when it is asked.

    It would parse the file again for the config and for the tokenizer, and make the table of
    names again for each part of a model.
    """
    import gguf

    own = {name: getattr(gguf, name) for name in others}
    try:
        for name, other in others.items():
            setattr(gguf, name, other)
        yield
    finally:
        for name, plain in own.items():
            setattr(gguf, name, plain)


def text_of(reader: Any, key: str) -> str:
    """A text of the metadata, '' where there is none."""
    value = reader.fields.get(key)
    return "" if value is None else str(value.contents())

"""The graphs a model is: one, or an encoder's and a decoder's, and what they are as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgetfm.signature import TARGET, TARGET_MASK, Signature, TensorSpec

MODEL = "model"
ENCODER, DECODER = "encoder_model", "decoder_model_merged"
"""What the graphs are called: the components of a bundle and the stems of their files, as Optimum
has them."""


@dataclass(frozen=True)
class Pair:
    """The two graphs of an encoder-decoder."""

    encoder: Path
    decoder: Path

    @property
    def parent(self) -> Path:
        """The folder of both."""
        return self.encoder.parent


Graph = Path | Pair
"""What is proven, quantized and run as one: a graph, or a pair of them."""


def parts(graph: Graph) -> dict[str, Path]:
    """The file of each component."""
    if isinstance(graph, Pair):
        return {ENCODER: graph.encoder, DECODER: graph.decoder}
    return {MODEL: graph}


def graph_of(paths: Mapping[str, Path]) -> Graph:
    """The inverse of `parts`."""
    return paths[MODEL] if MODEL in paths else Pair(paths[ENCODER], paths[DECODER])


def whole(signatures: Mapping[str, Signature]) -> Signature:
    """What a model takes and gives that is asked about whole texts, by its components' signatures.

    Of an encoder-decoder: a source, a text about it and which of its tokens count (rows are padded
    on the right), to the logits of what follows each token.
    """
    if MODEL in signatures:
        return signatures[MODEL].of_whole_texts
    target = tuple(
        TensorSpec(name, "int64", ("batch", "decoder_sequence")) for name in (TARGET, TARGET_MASK)
    )
    logits = tuple(t for t in signatures[DECODER].outputs if t.name == "logits")
    return Signature((*signatures[ENCODER].inputs, *target), logits)

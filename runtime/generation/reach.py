"""Whether a graph's tables of positions reach as far as its bundle says, known before a word."""

from __future__ import annotations

from edgetfm.errors import BundleError, EdgetfmError, InputError
from edgetfm.runtime.generation.decoder import Decoder


def check_reach(decoder: Decoder, tokens: int) -> None:
    """One step at the last of so many places: BundleError if the graph ends before it.

    A graph has tables, of rotary angles or of learned positions, and onnxruntime says how long
    they are only when a token is beyond their end.
    """
    if decoder.remembers is not None:  # a memory has no places
        return
    try:
        cache = decoder.cache(1, tokens)
    except InputError:
        return  # no memory for a text so long: the end of the tables is never met
    try:
        decoder.bind(cache).probe()
    except EdgetfmError as error:
        raise BundleError(
            f"{decoder.model.bundle.root}: its manifest says a context of {decoder.context} tokens,"
            f" and the graph does not reach to token {tokens}. Export it again.\n{error}"
        ) from error

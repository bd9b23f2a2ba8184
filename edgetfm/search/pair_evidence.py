"""What an encoder-decoder is calibrated on and judged by: it has written it itself.

The float32 graph, proven by then, continues greedily about each source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgetfm.progress import Progress, quiet
from edgetfm.runtime.encoder_decoder import EncoderDecoder, continue_greedily, open_graph
from edgetfm.runtime.memory import return_freed
from edgetfm.runtime.session import without_spinning
from edgetfm.search.draft import Draft
from edgetfm.search.float_graph import ask
from edgetfm.search.targets import pad_of, start_of
from edgetfm.signature import TARGET, Feeds
from edgetfm.stages import Graph

WRITTEN = 32
"""Tokens that the model writes about a source to be judged by, at most."""


def written_by(
    graph: Graph,
    feeds: Sequence[Feeds],
    generation: Mapping[str, Any],
    progress: Progress = quiet,
) -> list[Feeds]:
    """Feeds about sources with what these graphs write about them; pairs stay as they are."""
    model = open_graph(graph, settings=without_spinning())
    assert isinstance(model, EncoderDecoder)
    made = _written(model, feeds, generation, progress)
    del model
    return_freed()
    return made


def write_targets(draft: Draft, generation: Mapping[str, Any]) -> None:
    """Let the proven float32 graph write what is calibrated on and judged by, and judge it.

    Nothing to do for models of one graph.
    """
    evidence = draft.evidence
    if not draft.subject.task.seq2seq or not evidence.judged:
        return
    model = open_graph(draft.path("fp32"), settings=without_spinning())
    assert isinstance(model, EncoderDecoder)
    calibration = _written(model, evidence.calibration, generation, draft.progress)
    judged = _written(model, evidence.judged, generation, draft.progress)
    draft.evidence = replace(evidence, calibration=calibration, judged=judged)
    draft.judged = ask(model.run, draft.evidence.judged, "the fp32 graph", draft.progress)
    del model
    return_freed()


def _written(
    model: EncoderDecoder,
    feeds: Sequence[Feeds],
    generation: Mapping[str, Any],
    progress: Progress,
) -> list[Feeds]:
    made = []
    for done, batch in enumerate(feeds):
        progress("writing about the sources", done, len(feeds))
        if TARGET in batch:  # pairs that were given
            made.append(batch)
            continue
        whole = continue_greedily(
            model,
            batch,
            start=start_of(generation),
            ends=generation.get("eos") or (),
            pad=pad_of(generation),
            most=min(WRITTEN, int(generation.get("context") or WRITTEN)),
        )
        made.append(type(batch)(whole))
    return made

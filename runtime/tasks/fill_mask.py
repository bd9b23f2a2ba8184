"""fill-mask: the likeliest tokens for each masked place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetfm.errors import BundleError, InputError, listed
from edgetfm.runtime.tasks._texts import Asked, check_top_k, run_texts, softmax
from edgetfm.signature import Array

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


def fill_masks(
    asked: Asked,
    texts: Sequence[Any],
    *,
    top_k: int = 5,
    targets: Sequence[str] | None = None,
    batch_size: int = 1,
    max_length: int | None = None,
) -> list[Any]:
    """For each text its `top_k` proposals as {"score", "token", "token_str", "sequence"}.

    A text with several masks gets a list of such lists, one a mask. targets: only these tokens
    are considered; each has to be in the vocabulary.
    """
    check_top_k(top_k)
    encoder = asked.preprocessor.text_encoder
    mask = encoder.token("mask_token")
    mask_id = None if mask is None else encoder.tokenizer.token_to_id(mask)
    if mask_id is None:
        raise BundleError("the bundle's tokenizer has no mask token")
    wanted = None if targets is None else _target_ids(encoder.tokenizer, targets)
    rows: dict[int, Any] = {}
    for i, encoding, outputs in run_texts(
        asked, texts, batch_size=batch_size, max_length=max_length
    ):
        places = [p for p, token in enumerate(encoding.ids) if token == mask_id]
        if not places:
            raise InputError(f"text {i} has no {mask}, the place to fill: {texts[i]!r}")
        proposals = [
            _proposals(asked, encoding, place, outputs["logits"][place], wanted, top_k, places)
            for place in places
        ]
        rows[i] = proposals[0] if len(proposals) == 1 else proposals
    return [rows[i] for i in range(len(texts))]


def _target_ids(tokenizer: Tokenizer, targets: Sequence[str]) -> Array:
    names = [targets] if isinstance(targets, str) else list(targets)
    ids = [tokenizer.token_to_id(name) for name in names]
    unknown = [
        f"the target '{n}' is no token" for n, i in zip(names, ids, strict=True) if i is None
    ]
    if unknown or not names:
        raise InputError(listed(unknown) if unknown else "targets is empty")
    return np.unique(np.array(ids))


def _proposals(
    asked: Asked,
    encoding: Encoding,
    place: int,
    logits: Array,
    wanted: Array | None,
    top_k: int,
    places: Sequence[int],
) -> list[dict[str, Any]]:
    tokenizer = asked.preprocessor.text_encoder.tokenizer
    scores = softmax(logits)
    considered = np.arange(scores.shape[-1]) if wanted is None else wanted
    best = considered[np.argsort(-scores[considered], kind="stable")[:top_k]]
    proposals = []
    for token in best:
        ids = list(encoding.ids)
        ids[place] = int(token)
        proposals.append(
            {
                "score": float(scores[token]),
                "token": int(token),
                "token_str": tokenizer.decode([int(token)], skip_special_tokens=False),
                # With several masks the others are shown, and with them all special tokens.
                "sequence": tokenizer.decode(ids, skip_special_tokens=len(places) == 1),
            }
        )
    return proposals

"""token-classification: a label for each token, or entities made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetfm.errors import InputError
from edgetfm.runtime.tasks._texts import Asked, run_texts, softmax
from edgetfm.signature import Array

if TYPE_CHECKING:
    from tokenizers import Encoding

Entity = dict[str, Any]
STRATEGIES = ("none", "simple", "first", "average", "max")


def classify_tokens(
    asked: Asked,
    texts: Sequence[Any],
    *,
    aggregation_strategy: str = "none",
    ignore_labels: Sequence[str] = ("O",),
    batch_size: int = 1,
    max_length: int | None = None,
) -> list[list[Entity]]:
    """For each text its labelled tokens, or with an aggregation strategy its entities.

    none: {"entity", "score", "index", "word", "start", "end"} a token. simple: neighbours of the
    same type are one entity {"entity_group", "score", "word", "start", "end"}, B- begins a new
    one. first, average, max: the same, where all tokens of a word take one label: the first
    token's, that of the mean scores, or the surest. start and end count characters of the text.
    """
    if aggregation_strategy not in STRATEGIES:
        raise InputError(
            f"aggregation_strategy is '{aggregation_strategy}', known are {', '.join(STRATEGIES)}"
        )
    rows: dict[int, list[Entity]] = {}
    for i, encoding, outputs in run_texts(
        asked, texts, batch_size=batch_size, max_length=max_length
    ):
        tokens = _tokens(asked, str(texts[i]), encoding, softmax(outputs["logits"]))
        found = _aggregate(asked, tokens, aggregation_strategy)
        rows[i] = [e for e in found if _type(e) not in ignore_labels]
    return [rows[i] for i in range(len(texts))]


def _type(entity: Entity) -> str:
    return str(entity.get("entity_group", entity.get("entity")))


def _tokens(asked: Asked, text: str, encoding: Encoding, scores: Array) -> list[Entity]:
    """What is known of each token that is not special."""
    encoder = asked.preprocessor.text_encoder
    unknown = encoder.token("unk_token")
    prefix = getattr(encoder.tokenizer.model, "continuing_subword_prefix", None)
    tokens = []
    for i, word in enumerate(encoding.tokens):
        if encoding.special_tokens_mask[i]:
            continue
        start, end = encoding.offsets[i]
        if prefix:  # the token is longer than its text by the prefix
            continues = len(word) != end - start
        else:  # without words in the vocabulary, a space begins one
            continues = start > 0 and " " not in text[start - 1 : start + 1]
        if word == unknown:
            word, continues = text[start:end], False
        tokens.append(
            {"word": word, "scores": scores[i], "start": start, "end": end}
            | {"index": i, "continues": continues}
        )
    return tokens


def _aggregate(asked: Asked, tokens: list[Entity], strategy: str) -> list[Entity]:
    if strategy in ("none", "simple"):
        labelled = [
            {
                "entity": asked.label(int(t["scores"].argmax())),
                "score": float(t["scores"].max()),
                "index": t["index"],
                "word": t["word"],
                "start": t["start"],
                "end": t["end"],
            }
            for t in tokens
        ]
        return labelled if strategy == "none" else _grouped(asked, labelled)
    words: list[list[Entity]] = []
    for token in tokens:
        if words and token["continues"]:
            words[-1].append(token)
        else:
            words.append([token])
    return _grouped(asked, [_word(asked, word, strategy) for word in words])


def _word(asked: Asked, tokens: list[Entity], strategy: str) -> Entity:
    """One label for the tokens of a word."""
    scores = {
        "first": lambda: tokens[0]["scores"],
        "max": lambda: max((t["scores"] for t in tokens), key=lambda s: float(s.max())),
        "average": lambda: np.stack([t["scores"] for t in tokens]).mean(0),
    }[strategy]()
    return {
        "entity": asked.label(int(scores.argmax())),
        "score": float(scores.max()),
        "word": _joined(asked, [t["word"] for t in tokens]),
        "start": tokens[0]["start"],
        "end": tokens[-1]["end"],
    }


def _grouped(asked: Asked, labelled: list[Entity]) -> list[Entity]:
    """Neighbours of the same type as one entity, B- beginning a new one."""
    groups: list[list[Entity]] = []
    for entity in labelled:
        name = entity["entity"]
        same = groups and _bare(groups[-1][-1]["entity"]) == _bare(name)
        if same and not name.startswith("B-"):
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return [
        {
            "entity_group": group[0]["entity"].split("-", 1)[-1],
            "score": float(np.mean([e["score"] for e in group])),
            "word": _joined(asked, [e["word"] for e in group]),
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }
        for group in groups
    ]


def _bare(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label


def _joined(asked: Asked, tokens: list[str]) -> str:
    decoder = asked.preprocessor.text_encoder.tokenizer.decoder
    return decoder.decode(tokens) if decoder is not None else " ".join(tokens)

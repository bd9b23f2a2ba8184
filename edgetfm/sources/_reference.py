"""The oracle of a Hugging Face model: transformers, eager, float32."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from edgetfm.errors import SourceError, in_short
from edgetfm.layers.pooling import normalize, pool
from edgetfm.signature import CACHE_INPUTS, Feeds
from edgetfm.sources._piecewise import parameters_on_meta, part_by_part
from edgetfm.sources._source import Oracle
from edgetfm.sources._weights import open_weights
from edgetfm.tasks import TASKS

_AUTO = {
    "feature-extraction": "AutoModel",
    "fill-mask": "AutoModelForMaskedLM",
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "translation": "AutoModelForSeq2SeqLM",
    "summarization": "AutoModelForSeq2SeqLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "image-classification": "AutoModelForImageClassification",
    "image-feature-extraction": "AutoModel",
    "audio-classification": "AutoModelForAudioClassification",
    "automatic-speech-recognition": "AutoModelForCTC",
    "audio-feature-extraction": "AutoModel",
    "audio-frame-classification": "AutoModelForAudioFrameClassification",
    "audio-xvector": "AutoModelForAudioXVector",
    "object-detection": "AutoModelForObjectDetection",
    "image-segmentation": "AutoModelForSemanticSegmentation",
    "depth-estimation": "AutoModelForDepthEstimation",
    "zero-shot-image-classification": "AutoModelForZeroShotImageClassification",
}
# Several heads of one task, of which the automatic class would take another.
_EXACT = ("DeiTForImageClassificationWithTeacher", "WhisperForConditionalGeneration")


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """transformers without its progress bars, log lines and warnings."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def transformers_oracle(
    folder: Path, task: str, config: Any, *, trust_remote_code: bool = False
) -> Oracle:
    """A function from a graph's inputs to its outputs, as transformers computes them."""
    model, _ = load_model(folder, task, trust_remote_code)
    return oracle_of(model, task, config)


def oracle_of(model: Any, task: str, config: Any) -> Oracle:
    """A model of transformers as a function from a graph's inputs to its outputs.

    config: the family's, which says how a text is pooled.
    """

    def run(feeds: Feeds) -> Feeds:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tensors = {
                name: torch.from_numpy(array)
                for name, array in feeds.items()
                if not name.startswith(CACHE_INPUTS)  # whole texts are asked, nothing is past
            }
            outputs = _outputs(model(**tensors), tensors, task, config)
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return run


def load_model(
    folder: Path, task: str, trust_remote_code: bool = False, **changed: Any
) -> tuple[Any, dict[str, Any]]:
    """The model with the head of a task, eager and in float32, and what was missing or left over.

    The latter is transformers' own: `missing_keys`, `unexpected_keys` and others. changed: values
    of the config that are others here.
    """
    import transformers

    names = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures")
    exact = bool(names) and names[0] in _EXACT and _AUTO[task] != "AutoModel"
    kind = names[0] if exact else _AUTO[task]
    options: dict[str, Any] = {"trust_remote_code": True} if trust_remote_code else {}
    options |= changed
    with quiet_transformers():
        try:
            model, info = getattr(transformers, kind).from_pretrained(
                folder,
                attn_implementation="eager",
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
        except Exception as error:  # transformers raises whatever a file makes it raise
            if "Unrecognized configuration class" in str(error):
                raise SourceError(
                    f"transformers has no {kind} for the model type of {folder}, and so it cannot "
                    f"do {task}: choose another one with --task"
                ) from error
            raise SourceError(f"transformers cannot load {folder}: {in_short(error)}") from error
    return model.requires_grad_(False).eval(), dict(info)


def large_oracle(folder: Path, task: str, config: Any, paths: Sequence[Path]) -> Oracle:
    """`transformers_oracle` of a model larger than memory: a part at a time has its weights."""
    import transformers

    with quiet_transformers(), parameters_on_meta():
        hf = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        model = getattr(transformers, _AUTO[task]).from_config(
            hf, attn_implementation="eager", dtype=torch.float32
        )
    weights = open_weights(paths)
    base = f"{model.base_model_prefix}."
    table = next(n for n, m in model.named_modules() if m is model.get_input_embeddings())

    def read(name: str) -> torch.Tensor:
        names = (name, name.removeprefix(base))
        tied = (f"{table}.weight", f"{table}.weight".removeprefix(base))
        is_head = name.startswith("lm_head.") and hf.tie_word_embeddings
        found = next((n for n in (*names, *(tied if is_head else ())) if n in weights), None)
        if found is None:
            raise SourceError(f"{folder} lacks the weight {name} of {type(model).__name__}")
        return weights[found]

    return oracle_of(part_by_part(model, read), task, config)


def causal_lm(config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Any:
    """transformers' model of a config, with these weights: eager, float32."""
    import transformers

    with quiet_transformers(), parameters_on_meta():
        hf = transformers.AutoConfig.for_model(**config)
        model = transformers.AutoModelForCausalLM.from_config(
            hf, attn_implementation="eager", dtype=torch.float32
        )
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    missing = [name for name, weight in model.named_parameters() if weight.is_meta]
    if missing:
        raise SourceError(f"{type(model).__name__} lacks the weights {', '.join(missing[:5])}")
    return model.requires_grad_(False).eval()


def load_gguf(file: Path) -> Any:
    """The causal language model in a GGUF file, dequantized by transformers, eager, float32."""
    from transformers import AutoModelForCausalLM

    # Its bar of progress goes to stderr whatever the verbosity is.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        try:
            model = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                attn_implementation="eager",
                dtype=torch.float32,
                local_files_only=True,
            )
        except Exception as error:  # transformers raises whatever a file makes it raise
            raise SourceError(f"transformers cannot load {file}: {error}") from error
    return model.requires_grad_(False).eval()


def architecture(model_type: str, task: str) -> str:
    """The class that transformers has for a model type and a task, as configs name it."""
    import transformers

    config = transformers.AutoConfig.for_model(model_type)
    return str(getattr(transformers, _AUTO[task])._model_mapping[type(config)].__name__)


def _outputs(
    answer: Any, feeds: dict[str, torch.Tensor], task: str, config: Any
) -> dict[str, torch.Tensor]:
    if task == "question-answering":
        return {"start_logits": answer.start_logits, "end_logits": answer.end_logits}
    if TASKS[task].apart:
        return {output.name: answer[output.name] for output in TASKS[task].outputs}
    if not task.endswith("feature-extraction"):
        return {"logits": answer.logits}
    hidden = answer.last_hidden_state
    if task == "image-feature-extraction":
        return {"last_hidden_state": hidden, "image_embedding": hidden[:, 0]}
    vector = pool(hidden, feeds["attention_mask"], config.pooling)
    vector = normalize(vector) if config.normalize else vector
    return {"last_hidden_state": hidden, "sentence_embedding": vector}

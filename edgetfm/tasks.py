"""The tasks, one row each.

Names are those of the Hugging Face Hub and Optimum; synonyms people use are accepted. `other` is
for graphs that do none of them.
"""

from __future__ import annotations

from edgetfm.errors import InputError
from edgetfm.task import LABELLED, OTHER, WRITTEN_BUDGETS, Output, Task

_HIDDEN = Output("last_hidden_state", "hidden", per_token=True)
_LOGITS = Output("logits", "logits")
_TOKEN_LOGITS = Output("logits", "logits", per_token=True)
_EMBEDDING_BUDGET = "cosine:0.995,worst_cosine:0.99"
_AGREEMENT_BUDGET = "agreement:0.99"

TASKS: dict[str, Task] = {
    t.name: t
    for t in (
        Task(
            "feature-extraction",
            "text",
            (_HIDDEN, Output("sentence_embedding", "embedding")),
            _EMBEDDING_BUDGET,
            (
                "sentence-similarity",
                "sentence-embedding",
                "embedding",
                "embeddings",
                "default",
                "pretraining",
            ),
        ),
        # A mean divergence of 0.01 nats is 1 % of perplexity under PyTorch's own predictions;
        # the first of 30,000 words changes places with the second far too easily to count.
        Task("fill-mask", "text", (_TOKEN_LOGITS,), "kl:0.01", ("masked-lm",)),
        # Perplexity may fall while the answers change; a divergence counts every change. Of
        # SmolLM2-135M int8-weight is at 0.003 nats and int4 at 0.12 to 0.13, to nearest at 0.53;
        # with logits scaled by 0.9, which perplexity likes, 0.03, by 0.8 0.16, and without one of
        # its 30 layers 0.18. Whoever wants 4 bits by name gets what they are worth; what a search
        # mixes by itself may cost less.
        Task(
            "text-generation",
            "text",
            (Output("logits", "logits", per_token=True, of_next=True),),
            "perplexity:0.05,kl:0.1",
            ("causal-lm", "text-generation-with-past", "causal-lm-with-past"),
            budgets={
                "int4": "perplexity:0.05,kl:0.15",
                "int8-weight": "perplexity:0.01,kl:0.02",
                "fp16": "perplexity:0.01,kl:0.02",
            },
            generates=True,
        ),
        *(
            Task(
                name,
                "text",
                (Output("logits", "logits", per_token=True, of_next=True),),
                "perplexity:0.05",
                synonyms,
                budgets=WRITTEN_BUDGETS,
                generates=True,
                seq2seq=True,
            )
            for name, synonyms in (
                ("text2text-generation", ("seq2seq-lm", "text2text-generation-with-past")),
                ("translation", ("translation-with-past",)),
                ("summarization", ("summarisation",)),
            )
        ),
        Task(
            "text-classification",
            "text",
            (_LOGITS,),
            _AGREEMENT_BUDGET,
            ("sequence-classification", "sentiment-analysis", "zero-shot-classification"),
        ),
        Task("token-classification", "text", (_TOKEN_LOGITS,), _AGREEMENT_BUDGET, ("ner",)),
        Task(
            "question-answering",
            "text",
            (Output("start_logits", "span"), Output("end_logits", "span")),
            _AGREEMENT_BUDGET,
            ("qa",),
        ),
        Task("image-classification", "image", (_LOGITS,), _AGREEMENT_BUDGET),
        Task(
            "image-feature-extraction",
            "image",
            (Output("last_hidden_state", "hidden"), Output("image_embedding", "embedding")),
            _EMBEDDING_BUDGET,
            ("image-features",),
        ),
        # Every query counts, also those that see nothing: they have to go on seeing nothing.
        Task(
            "object-detection",
            "image",
            (Output("logits", "logits", per="query"), Output("pred_boxes", "boxes", per="query")),
            "agreement:0.99,iou:0.95",
        ),
        Task(
            "image-segmentation",
            "image",
            (Output("logits", "logits", per="pixel"),),
            _AGREEMENT_BUDGET,
            ("semantic-segmentation",),
        ),
        Task(
            "image-to-text",
            "image",
            (Output("logits", "logits", per_token=True, of_next=True),),
            "perplexity:0.05",
            ("image-captioning", "captioning", "image-to-text-with-past", "vision2seq-lm"),
            budgets=WRITTEN_BUDGETS,
            generates=True,
            seq2seq=True,
        ),
        Task("depth-estimation", "image", (Output("predicted_depth", "map"),), "relative:0.05"),
        Task(
            "zero-shot-image-classification",
            "image-text",
            (
                Output("logits_per_image", "logits"),
                Output("text_embeds", "embedding"),
                Output("image_embeds", "embedding"),
            ),
            _EMBEDDING_BUDGET,
            apart=True,
        ),
        Task("audio-classification", "audio", (_LOGITS,), _AGREEMENT_BUDGET),
        Task(
            "multimodal-classification",
            "text-image-audio",
            (_LOGITS,),
            _AGREEMENT_BUDGET,
            ("multimodal",),
        ),
        # Until there are transcripts: the letter of a frame is what a text is made of. With them
        # the words decide, for letters move by a frame at no cost.
        Task(
            "automatic-speech-recognition",
            "audio",
            (_TOKEN_LOGITS,),
            _AGREEMENT_BUDGET,
            ("asr", "speech-recognition", "ctc", "audio-ctc"),
            budgets={LABELLED: "agreement:0.95,2%"},
        ),
        Task(
            "audio-feature-extraction",
            "audio",
            (_HIDDEN, Output("audio_embedding", "embedding")),
            _EMBEDDING_BUDGET,
            ("audio-features",),
        ),
        Task("audio-frame-classification", "audio", (_TOKEN_LOGITS,), _AGREEMENT_BUDGET),
        Task(
            "audio-xvector",
            "audio",
            (_LOGITS, Output("embeddings", "embedding")),
            _EMBEDDING_BUDGET,
            ("speaker-verification",),
        ),
        Task(OTHER, "arrays", (), _EMBEDDING_BUDGET),
    )
}


def task_named(name: str) -> Task:
    """The task of this name or synonym; an InputError that lists them otherwise."""
    wanted = name.strip().lower().replace("_", "-")
    for task in TASKS.values():
        if wanted == task.name or wanted in task.synonyms:
            return task
    raise InputError(f"unknown task '{name}'; known are {', '.join(TASKS)}")

"""Post-norm text encoders: BERT, RoBERTa, DistilBERT and MPNet.

Devlin et al. 2018, https://arxiv.org/abs/1810.04805; they differ in how positions are counted,
in token types, and in MPNet's bias for distances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgetfm.errors import SourceError
from edgetfm.layers.feed_forward import ACTIVATIONS
from edgetfm.layers.heads import TextClassifier, TokenClassifier, TokenDecoder
from edgetfm.layers.parts import (
    ATTENTIONS,
    FEED_FORWARDS,
    NORMS,
    PLACES,
    around,
    make_attention,
    make_norm,
    seen_by,
)
from edgetfm.layers.pooling import normalize, pool
from edgetfm.layers.positions import RelativeBias, positions_past_padding
from edgetfm.layers.sinusoids import sinusoids
from edgetfm.models._config import check_config
from edgetfm.models._family import Drop, Family, FromHF, Pack, Rename, Transpose
from edgetfm.models._hf import Reader
from edgetfm.models._layers import feed_forward_of, last_norm
from edgetfm.signature import TensorSpec


@dataclass(frozen=True)
class BertConfig:
    """The sizes of an encoder, and the words that choose its parts.

    positions: rows of the table of positions; place: whether it is learned or sinusoidal.
    past_padding: positions are counted from pad_token_id + 1 over the tokens that are not
    padding. token_types: rows of their table, 0 is none; without token_type_input its first row
    is always added. distance_buckets: 0 is no bias. head_activation: between the two layers of a
    text classifier. labels: logits of a classifier. pooling, normalize: how `sentence_embedding`
    is made. attention, norm, norm_place, feed_forward: see `edgetfm.layers.parts`; window: of
    sparse attention. experts, chosen, balance: of a feed_forward that is moe, as in `MoEConfig`.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    positions: int
    token_types: int = 2
    token_type_input: bool = True
    past_padding: bool = False
    pad_token_id: int = 0
    distance_buckets: int = 0
    activation: str = "gelu"
    eps: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    labels: int = 2
    head_activation: str = "tanh"
    decoder_activation: str = "gelu"
    tied: bool = True
    pooling: str = "mean"
    normalize: bool = False
    attention: str = "dense"
    window: int = 64
    norm: str = "layer"
    norm_place: str = "post"
    feed_forward: str = "plain"
    experts: int = 8
    chosen: int = 2
    balance: float = 0.01
    place: str = "learned"

    def __post_init__(self) -> None:
        check_config(
            self,
            counts=("vocabulary", "width", "layers", "heads", "inner", "longest", "labels",
                    "window", "experts", "chosen"),
            activations=("activation", "head_activation", "decoder_activation"),
            divides=(("heads", "width"),),
            at_most=(("chosen", "experts"),),
            words={"attention": ATTENTIONS, "norm": NORMS, "norm_place": PLACES,
                   "feed_forward": FEED_FORWARDS, "place": ("learned", "sinusoidal")},
        )  # fmt: skip
        if self.attention != "dense" and self.distance_buckets:
            raise SourceError(
                f"attention is {self.attention!r} with {self.distance_buckets} distance_buckets: "
                "their bias is added to the scores of every two tokens, which it does not make. "
                "Take attention dense, or no distance_buckets"
            )

    @property
    def longest(self) -> int:
        """The most tokens the table of positions has a row for."""
        return self.positions - (self.pad_token_id + 1 if self.past_padding else 0)


class Embeddings(nn.Module):
    """Token, position and token type, added and normalized: [sequence, batch, width]."""

    positions: Tensor

    def __init__(self, c: BertConfig) -> None:
        super().__init__()
        self.config = c
        self.words = nn.Embedding(c.vocabulary, c.width)
        if c.place == "learned":
            self.positions = nn.Parameter(torch.empty(c.positions, c.width).normal_(std=0.02))
        else:
            table = sinusoids(c.positions, c.width)
            self.register_buffer("positions", table, persistent=False)
        if c.token_types:
            self.types = nn.Parameter(torch.empty(c.token_types, c.width).normal_(std=0.02))
        self.norm = make_norm(c.norm, c.width, c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, input_ids: Tensor, mask: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """All three are [batch, sequence] int64; padding is given the first token's ids and place.

        Nobody may look at padding, so its hidden states are free. As copies of the first token's
        they add nothing to the range of an activation, by which dynamic int8 scales a whole
        batch: otherwise outliers at padding coarsen the tokens that count.
        """
        c = self.config
        table = self.positions
        if c.token_types and not c.token_type_input:
            table = table + self.types[:1]  # constants both: a runtime adds them once, on loading
        real = mask.t().bool()
        x = self.words(_first_where_padded(input_ids.t(), real))
        if token_type_ids is not None:
            types = _first_where_padded(token_type_ids.t(), real)
            x = x + nn.functional.embedding(types, self.types)
        if c.past_padding:
            places = positions_past_padding(input_ids, c.pad_token_id).t()
        else:
            places = torch.arange(input_ids.shape[1], device=input_ids.device)[:, None]
        x = x + nn.functional.embedding(_first_where_padded(places, real), table)
        out: Tensor = self.dropout(self.norm(x))
        return out


def _first_where_padded(ids: Tensor, real: Tensor) -> Tensor:
    """[sequence, batch]: each text's first id in place of what is not real."""
    return torch.where(real, ids, ids[:1])


class Layer(nn.Module):
    """Attention and feed-forward, each added to its input, normalized before or after."""

    def __init__(self, c: BertConfig) -> None:
        super().__init__()
        self.place = c.norm_place
        self.attention = make_attention(
            c.attention, c.width, c.heads, window=c.window, dropout=c.attention_dropout
        )
        self.attention_norm = make_norm(c.norm, c.width, c.eps)
        self.feed_forward = feed_forward_of(c, c.inner, sequence_first=True)
        self.feed_forward_norm = make_norm(c.norm, c.width, c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """`x` is [sequence, batch, width], `seen` what its attention takes."""

        def attention(x: Tensor) -> Tensor:
            mixed: Tensor = self.attention(x, seen)
            return mixed

        x = around(x, attention, self.attention_norm, self.place, self.dropout)
        return around(x, self.feed_forward, self.feed_forward_norm, self.place, self.dropout)


class Bert(nn.Module):
    """The encoder with the head of one task."""

    def __init__(self, c: BertConfig, task: str) -> None:
        super().__init__()
        self.config, self.task = c, task
        self.embeddings = Embeddings(c)
        if c.distance_buckets:
            self.distances = RelativeBias(c.heads, c.longest, c.distance_buckets)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = last_norm(c)
        if task == "fill-mask":
            self.decoder = TokenDecoder(
                c.width, c.vocabulary, c.decoder_activation, eps=c.eps, tied=c.tied
            )
        elif task == "text-classification":
            self.classifier: nn.Module = TextClassifier(
                c.width, c.labels, c.head_activation, dropout=c.dropout
            )
        elif task == "token-classification":
            self.classifier = TokenClassifier(c.width, c.labels, dropout=c.dropout)
        elif task == "question-answering":
            self.span = TokenClassifier(c.width, 2, dropout=c.dropout)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Inputs are [batch, sequence] int64; the outputs are those of the task, by name."""
        x = self.embeddings(input_ids, attention_mask, token_type_ids)
        seen = seen_by(self.config.attention, attention_mask)
        if self.config.distance_buckets:
            seen = seen + self.distances(input_ids.shape[1])
        for layer in self.layers:
            x = layer(x, seen)
        return self._head(self.norm(x), attention_mask)

    def _head(self, x: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """`x` is [sequence, batch, width]."""
        if self.task == "text-classification":
            return {"logits": self.classifier(x[0])}
        x = x.transpose(0, 1)
        if self.task == "fill-mask":
            return {"logits": self.decoder(x, self.embeddings.words.weight)}
        if self.task == "token-classification":
            return {"logits": self.classifier(x)}
        if self.task == "question-answering":
            start, end = self.span(x).unbind(-1)
            return {"start_logits": start, "end_logits": end}
        vector = pool(x, attention_mask, self.config.pooling)
        if self.config.normalize:
            vector = normalize(vector)
        return {"last_hidden_state": x, "sentence_embedding": vector}


_TEXT = ("batch", "sequence")


def _inputs(c: BertConfig, task: str) -> tuple[TensorSpec, ...]:
    names = ("input_ids", "attention_mask", "token_type_ids")
    return tuple(TensorSpec(n, "int64", _TEXT) for n in names[: 3 if c.token_type_input else 2])


def _outputs(c: BertConfig, task: str) -> tuple[TensorSpec, ...]:
    shapes: dict[str, dict[str, tuple[int | str, ...]]] = {
        "feature-extraction": {
            "last_hidden_state": (*_TEXT, c.width),
            "sentence_embedding": ("batch", c.width),
        },
        "fill-mask": {"logits": (*_TEXT, c.vocabulary)},
        "text-classification": {"logits": ("batch", c.labels)},
        "token-classification": {"logits": (*_TEXT, c.labels)},
        "question-answering": {"start_logits": _TEXT, "end_logits": _TEXT},
    }
    return tuple(TensorSpec(name, "float32", shape) for name, shape in shapes[task].items())


def _config_from_hf(hf: Mapping[str, Any], task: str) -> BertConfig:
    """The config of any of the four types; a SourceError for what an encoder cannot honour."""
    read = Reader(hf, "bert")
    distil = read.model_type == "distilbert"
    fairseq = read.model_type in ("roberta", "mpnet")
    read.refuse("is_decoder", allowed=(False, None))
    read.refuse("add_cross_attention", allowed=(False, None))
    read.refuse("position_embedding_type", allowed=("absolute", None))
    # transformers' own MPNet always uses 32 buckets, whatever its config says.
    read.refuse("relative_attention_num_buckets", allowed=(32, None))
    read.refuse("embedding_size", allowed=(None, hf.get("hidden_size")))
    activation = read.one_of("activation" if distil else "hidden_act", ACTIVATIONS, "gelu")
    types = read.size("type_vocab_size") if read.model_type in ("bert", "roberta") else 0
    values: dict[str, Any] = dict(  # noqa: C408  (a call is what follows)
        vocabulary=read.size("vocab_size"),
        width=read.size("dim" if distil else "hidden_size"),
        layers=read.size("n_layers" if distil else "num_hidden_layers"),
        heads=read.size("n_heads" if distil else "num_attention_heads"),
        inner=read.size("hidden_dim" if distil else "intermediate_size"),
        positions=read.size("max_position_embeddings"),
        token_types=types,
        token_type_input=read.model_type == "bert" and types > 1,
        past_padding=fairseq,
        # transformers' MPNet counts from 1 whatever its config says is padding.
        pad_token_id=1 if read.model_type == "mpnet" else read.whole("pad_token_id", 0),
        distance_buckets=32 if read.model_type == "mpnet" else 0,
        activation=activation,
        eps=1e-12 if distil else read.number("layer_norm_eps", 1e-12),
        dropout=read.number("dropout" if distil else "hidden_dropout_prob", 0.1),
        attention_dropout=read.number(
            "attention_dropout" if distil else "attention_probs_dropout_prob", 0.1
        ),
        labels=len(hf.get("id2label") or {}) or 2,
        head_activation="relu" if distil else "tanh",
        decoder_activation="gelu" if fairseq else activation,
        tied=bool(hf.get("tie_word_embeddings", True)),
    )
    read.divides("num_attention_heads", values["heads"], "hidden_size", values["width"])
    if task == "question-answering" and values["labels"] != 2:
        read.problems.append(f"a question answering head has 2 labels, not {values['labels']}")
    read.finish()
    return BertConfig(**values)


_LAYER = r"^(?:encoder|transformer)\.layer\.(\d+)\."

FAMILY = Family(
    name="bert",
    tasks=(
        "feature-extraction",
        "fill-mask",
        "question-answering",
        "text-classification",
        "token-classification",
    ),
    config=BertConfig,
    build=Bert,
    inputs=_inputs,
    outputs=_outputs,
    from_hf=FromHF(
        model_types=("bert", "roberta", "distilbert", "mpnet"),
        config=_config_from_hf,
        weights=(
            Rename(r"^(bert|roberta|distilbert|mpnet)\.", ""),
            Rename(r"(LayerNorm|layer_norm)\.gamma$", r"\1.weight"),
            Rename(r"(LayerNorm|layer_norm)\.beta$", r"\1.bias"),
            # Buffers of old checkpoints, and next-sentence prediction, which is no task here.
            Drop(r"^embeddings\.(position_ids|token_type_ids)$|^cls\.seq_relationship\."),
            Rename(r"^embeddings\.word_embeddings\.", "embeddings.words."),
            Rename(r"^embeddings\.position_embeddings\.weight$", "embeddings.positions"),
            Rename(r"^embeddings\.token_type_embeddings\.weight$", "embeddings.types"),
            Rename(r"^embeddings\.LayerNorm\.", "embeddings.norm."),
            Rename(r"^encoder\.relative_attention_bias\.", "distances."),
            Rename(_LAYER + r"attention\.(?:self\.|attn\.)?", r"layers.\1.attention."),
            Rename(r"\.attention\.(?:query|q_lin)\.", ".attention.q."),
            Rename(r"\.attention\.(?:key|k_lin)\.", ".attention.k."),
            Rename(r"\.attention\.(?:value|v_lin)\.", ".attention.v."),
            Rename(r"\.attention\.(?:output\.dense|out_lin|o)\.", ".attention.out."),
            Rename(r"\.attention\.(?:output\.)?LayerNorm\.", ".attention_norm."),
            Rename(_LAYER + r"sa_layer_norm\.", r"layers.\1.attention_norm."),
            Rename(_LAYER + r"(?:intermediate\.dense|ffn\.lin1)\.", r"layers.\1.feed_forward.up."),
            Rename(_LAYER + r"(?:output\.dense|ffn\.lin2)\.", r"layers.\1.feed_forward.down."),
            Rename(
                _LAYER + r"(?:output\.LayerNorm|output_layer_norm)\.",
                r"layers.\1.feed_forward_norm.",
            ),
            Rename(r"^(?:cls\.predictions\.transform|lm_head)\.dense\.", "decoder.dense."),
            Rename(
                r"^(?:cls\.predictions\.transform\.LayerNorm|lm_head\.layer_norm)\.",
                "decoder.norm.",
            ),
            Rename(r"^vocab_transform\.", "decoder.dense."),
            Rename(r"^vocab_layer_norm\.", "decoder.norm."),
            # A decoder of its own has a bias of its own, which comes second and so wins.
            Rename(r"^(?:cls\.predictions|lm_head)(?:\.decoder)?\.bias$", "decoder.bias"),
            Rename(r"^vocab_projector\.bias$", "decoder.bias"),
            Rename(
                r"^(?:cls\.predictions\.decoder|lm_head\.decoder|vocab_projector)\.weight$",
                "decoder.decoder.weight",
            ),
            Rename(r"^(?:pooler\.dense|pre_classifier)\.", "classifier.dense."),
            Rename(r"^classifier\.(weight|bias)$", r"classifier.out.\1"),
            Rename(r"^classifier\.out_proj\.", "classifier.out."),
            Rename(r"^qa_outputs\.", "span.out."),
            Pack(("q", "k", "v"), "qkv"),
            Transpose(r"\.(qkv|out|up|down|dense|decoder)\.weight$"),
        ),
        elsewhere=r"^(decoder|classifier|span)\.",
    ),
)

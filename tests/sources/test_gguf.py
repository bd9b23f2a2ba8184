"""GGUF files answer as transformers reads them, and say what they hold."""

from __future__ import annotations

import copy
import struct
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from edgetfm.errors import SourceError
from edgetfm.sources._gguf import is_gguf, open_gguf
from edgetfm.sources._gguf_metadata import read_metadata


@pytest.fixture(scope="module")
def tiny_llama() -> Any:
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False, pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def write_gguf(model: Any, file: Path, kind: str = "F32", architecture: str = "llama") -> Path:
    """The model as llama.cpp would write it: its names, queries and keys permuted by its rule."""
    import gguf
    from gguf import GGMLQuantizationType, GGUFWriter, get_tensor_name_map, quants

    config = model.config
    writer = GGUFWriter(file, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(128)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    names = get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    wanted = GGMLQuantizationType[kind]
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        for part, count in heads.items():
            if part in name:
                shape = values.shape
                values = values.reshape(count, 2, shape[0] // count // 2, *shape[1:])
                values = values.swapaxes(1, 2).reshape(shape)
        own = names.get_name(name, try_suffixes=(".weight",))
        values = np.ascontiguousarray(values)
        if kind != "F32" and values.ndim == 2:
            writer.add_tensor(own, quants.quantize(values, wanted), raw_dtype=wanted)
        else:
            writer.add_tensor(own, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_floats_come_back_as_they_were(tiny_llama: Any, tmp_path: Path) -> None:
    opened = open_gguf(write_gguf(tiny_llama, tmp_path / "m.gguf"))
    weights = opened.weights()
    wanted = tiny_llama.state_dict()
    assert weights.keys() == wanted.keys()
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
    assert opened.architecture == "llama"
    assert opened.config["num_key_value_heads"] == 2
    assert opened.note == ""


def test_numbers_that_are_not_finite_are_refused_by_the_names_of_their_weights(
    tiny_llama: Any, tmp_path: Path
) -> None:
    model = copy.deepcopy(tiny_llama)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = float("inf")
        model.model.norm.weight[0] = float("nan")
    opened = open_gguf(write_gguf(model, tmp_path / "m.gguf"))
    with pytest.raises(SourceError, match=r"NaN or infinite.*layers\.1\.mlp\.up_proj.*model\.norm"):
        opened.weights()


def test_a_file_is_parsed_once_and_names_are_looked_up_in_one_table(
    tiny_llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_made(monkeypatch)
    open_gguf(write_gguf(tiny_llama, tmp_path / "m.gguf"))
    assert made == {"GGUFReader": 1, "TensorNameMap": 2}  # one is made by write_gguf


def count_made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many readers and tables of names the package gguf makes from now on."""
    import gguf

    made: Counter[str] = Counter()
    for name in ("GGUFReader", "TensorNameMap"):
        kind = getattr(gguf, name)

        def count(self: Any, *args: Any, plain: Any = kind.__init__, name: str = name) -> None:
            made[name] += 1
            plain(self, *args)

        monkeypatch.setattr(kind, "__init__", count)
    return made


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
def test_blocks_are_handed_out_in_the_order_of_the_floats(
    tiny_llama: Any, tmp_path: Path, kind: str
) -> None:
    from gguf import GGMLQuantizationType, dequantize

    opened = open_gguf(write_gguf(tiny_llama, tmp_path / "m.gguf", kind))
    assert Counter(opened.kinds.values()) == {kind: 16, "F32": 5}
    for name, found in opened.kinds.items():
        values = opened.tensor(name)
        assert values.shape == opened.tensor_shape(name)
        if found == kind:
            again = dequantize(opened.packed(name), GGMLQuantizationType[kind])
            assert np.array_equal(again, values)
        else:
            with pytest.raises(SourceError, match="no rows of blocks"):
                opened.packed(name)
    assert kind in opened.note
    assert "a second time" in opened.note


def test_what_transformers_does_not_read_is_refused_by_name(
    tiny_llama: Any, tmp_path: Path
) -> None:
    write_gguf(tiny_llama, tmp_path / "m.gguf", architecture="bert")
    with pytest.raises(SourceError, match=r"architecture 'bert'.* it reads .*llama"):
        open_gguf(tmp_path)


def test_of_several_files_one_is_to_be_named(tiny_llama: Any, tmp_path: Path) -> None:
    file = write_gguf(tiny_llama, tmp_path / "a.gguf")
    (tmp_path / "b.gguf").write_bytes(file.read_bytes())
    assert is_gguf(tmp_path)
    with pytest.raises(SourceError, match=r"several GGUF files.*a\.gguf, b\.gguf"):
        open_gguf(tmp_path)
    assert open_gguf(file).names == open_gguf(tmp_path / "b.gguf").names


def test_damaged_and_split_files_are_refused(tiny_llama: Any, tmp_path: Path) -> None:
    file = write_gguf(tiny_llama, tmp_path / "m.gguf")
    for size in (0, 3, 100, 2000, len(file.read_bytes()) - 50):
        (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:size])
        with pytest.raises(SourceError, match=r"cut\.gguf"):
            open_gguf(tmp_path / "cut.gguf")
    with pytest.raises(SourceError, match="--merge"):
        open_gguf(file.rename(tmp_path / "m-00001-of-00003.gguf"))


@pytest.mark.slow
def test_a_real_file_is_read_as_transformers_reads_it(
    smollm2_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_made(monkeypatch)
    opened = open_gguf(smollm2_folder)
    files = opened.tokenizer_files()
    assert made == {"GGUFReader": 1, "TensorNameMap": 1}
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2_folder, gguf_file=opened.path.name, dtype=torch.float32
    ).state_dict()
    assert reference.keys() - set(opened.names) == {"lm_head.weight"}  # tied
    assert all(torch.equal(w, reference[n]) for n, w in opened.weights().items())
    config = transformers.AutoConfig.from_pretrained(
        smollm2_folder, gguf_file=opened.path.name, local_files_only=True
    )
    assert opened.config == config.to_dict()  # for which words of its tokenizer were not looked at
    assert opened.licence == "apache-2.0"
    assert "4-bit (Q4_1)" in opened.note
    assert b"im_start" in files["chat_template.jinja"]
    assert {"tokenizer.json", "tokenizer_config.json"} <= files.keys()


LISTS = st.one_of(
    *(st.lists(item, min_size=1, max_size=9) for item in (
        st.text(max_size=9), st.integers(-(2**31), 2**31 - 1), st.floats(width=32), st.booleans()
    ))
)  # fmt: skip


@given(st.lists(LISTS, max_size=5), st.booleans())
def test_metadata_is_what_the_package_gguf_reads(lists: list[list[Any]], big: bool) -> None:
    from gguf import GGUFEndian, GGUFReader, GGUFWriter

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "m.gguf"
        order = GGUFEndian.BIG if big else GGUFEndian.LITTLE
        writer = GGUFWriter(file, "llama", endianess=order)
        for number, values in enumerate(lists):
            writer.add_array(f"list.{number}", values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        ours, plain = read_metadata(file), GGUFReader(file)
        assert list(ours.fields) == list(plain.fields)
        for name, wanted in plain.fields.items():
            found = ours.fields[name]
            assert (found.offset, found.data, found.types) == (
                wanted.offset, wanted.data, wanted.types
            )  # fmt: skip
            assert [(p.dtype, p.shape, p.tobytes()) for p in found.parts] == [
                (p.dtype, p.shape, p.tobytes()) for p in wanted.parts
            ]


def test_weights_are_shared_as_long_as_somebody_has_them(tiny_llama: Any, tmp_path: Path) -> None:
    opened = open_gguf(write_gguf(tiny_llama, tmp_path / "m.gguf", "Q4_1"))
    name = "model.layers.0.self_attn.q_proj.weight"
    one = torch.from_numpy(opened.tensor(name))
    assert opened.weights()[name].data_ptr() == one.data_ptr()
    del one
    assert not opened._in_use


def test_a_file_is_not_read_beyond_its_end(tmp_path: Path) -> None:
    """A count of 10^15 would be gone through; one of 10^5 shows whether it is."""
    file = tmp_path / "long.gguf"
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"x"
    file.write_bytes(head + struct.pack("<IIQ", 9, 4, 10**5))  # an array of 32-bit numbers
    with pytest.raises(SourceError, match="it ends at byte 49, in the middle"):
        open_gguf(file)
    for word in (struct.pack("<Q", 1 << 40), b"abc"):
        file.write_bytes(head + struct.pack("<IIQ", 9, 8, 10**15) + word)  # of words
        with pytest.raises(SourceError, match=r"it ends at byte \d+, in the middle"):
            open_gguf(file)

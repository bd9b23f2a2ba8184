"""Text comes piece by piece, whole characters only, and is together what the tokens decode to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetfm.runtime.generation.stream import Detokenizer, StopStrings, TokenStream

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KINDS = ["byte_level", "llama", "metaspace", "word_piece", "suffixed"]


def pieces(tokenizer: Tokenizer, ids: list[int], context: list[int] | None = None) -> list[str]:
    stream = TokenStream(Detokenizer(tokenizer), context or [])
    return [*(stream.add(i) for i in ids), stream.end()]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_the_pieces_are_the_text(
    tokenizers: dict[str, Tokenizer], kind: str, data: st.DataObject
) -> None:
    tokenizer = tokenizers[kind]
    token = st.integers(0, tokenizer.get_vocab_size() - 1)
    ids = data.draw(st.lists(token, max_size=40))
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_after_a_prompt_they_go_on_where_it_ends(
    tokenizers: dict[str, Tokenizer], kind: str, data: st.DataObject
) -> None:
    tokenizer = tokenizers[kind]
    token = st.integers(0, tokenizer.get_vocab_size() - 1)
    context, ids = data.draw(st.lists(token, max_size=20)), data.draw(st.lists(token, max_size=20))
    whole, before = tokenizer.decode([*context, *ids]), tokenizer.decode(context)
    if before.endswith("�") or not whole.startswith(before):
        return  # the prompt ends in half a character: it belongs to neither
    assert before + "".join(pieces(tokenizer, ids, context)) == whole


@given(text=st.text(alphabet="a é😀🏳️‍🌈👩🏽‍🚀日本", max_size=20))
@pytest.mark.parametrize("kind", ["byte_level", "llama"])
def test_no_piece_has_half_a_character(
    tokenizers: dict[str, Tokenizer], kind: str, text: str
) -> None:
    tokenizer = tokenizers[kind]
    said = pieces(tokenizer, tokenizer.encode(text).ids)
    assert "".join(said) == text
    assert not any("�" in piece for piece in said)


def test_a_character_comes_with_its_last_token(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["byte_level"]
    ids = tokenizer.encode("😀").ids
    assert len(ids) == 2
    assert pieces(tokenizer, ids) == ["", "😀", ""]
    assert pieces(tokenizer, [ids[0], tokenizer.token_to_id("a")]) == ["", "�a", ""]
    assert pieces(tokenizer, ids[:1]) == ["", "�"]


def test_a_space_before_the_first_word_comes_with_a_prompt(
    tokenizers: dict[str, Tokenizer],
) -> None:
    tokenizer = tokenizers["llama"]
    the, boat = (tokenizer.token_to_id(t) for t in ("▁the", "▁boat"))
    assert "".join(pieces(tokenizer, [boat])) == "boat"
    assert "".join(pieces(tokenizer, [boat], [the])) == " boat"


# --- stop strings -------------------------------------------------------------------------------

LETTERS = st.text(alphabet="abc", max_size=4)


@given(said=st.lists(LETTERS, max_size=15), stops=st.lists(LETTERS.filter(bool), max_size=3))
def test_text_ends_before_the_first_stop_string(said: list[str], stops: list[str]) -> None:
    stopping, told = StopStrings(stops), ""
    for number, piece in enumerate(said):
        told += stopping.add(piece)
        so_far = "".join(said[: number + 1])
        if any(s in so_far for s in stops):
            assert stopping.found in stops
            first = min(so_far.find(s) for s in stops if s in so_far)
            assert told == so_far[:first]
            assert stopping.add("more") == stopping.end() == ""
            return
        assert stopping.found is None
        held = so_far.removeprefix(told)
        assert told + held == so_far
        assert not held or any(s.startswith(held) for s in stops)
    assert told + stopping.end() == "".join(said)


def test_nothing_of_a_stop_string_is_said() -> None:
    stopping = StopStrings(["</answer>", "\n\n"])
    given = ("yes", "<", "/ans", "wered", "\n", "x", "</answ", "er>z")
    said = ["yes", "", "", "</answered", "", "\nx", "", ""]
    assert [stopping.add(piece) for piece in given] == said
    assert stopping.found == "</answer>"

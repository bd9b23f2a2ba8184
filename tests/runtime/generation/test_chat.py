"""Chats become the text that transformers makes of them; what is broken is said with its line."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from edgetfm.errors import BundleError, InputError
from edgetfm.runtime.generation import sandbox
from edgetfm.runtime.generation.chat import ChatTemplate, is_chat

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRICT = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] %}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + (system ~ '\\n\\n' if loop.first and system is defined else '') }}
        {{- message['content'] | trim + ' [/INST]' }}
    {%- else %}
        {%- generation %}{{ ' ' + message['content'] | trim + eos_token }}{% endgeneration %}
    {%- endif %}
{%- endfor %}
"""
TOOLS = """{% set ns = namespace(seen=0) %}
{% for tool in tools or [] %}
{{ tool | tojson(indent=2) }}
{% endfor %}
{% for m in messages %}
  {% if m.role == 'skip' %}{% continue %}{% endif %}
  {% set ns.seen = ns.seen + 1 %}
{{ ns.seen }}. {{ m.role }}: {% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}
{{ m.content if m.content is string else m.content | tojson }}
{% endfor %}
{{ strftime_now('%Y') }} {{ enable_thinking | default('off') }}
"""
CHATS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hi <b> & 'you' 😀"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " two\nlines "}],
    [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": " two ", "thinking": "hm"},
        {"role": "user", "content": "three"},
    ],
]


def theirs(template: str) -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE({"<s>": 0, "</s>": 1}, [])),
        bos_token="<s>", eos_token="</s>", chat_template=template,
    )  # fmt: skip


def ours(template: str) -> ChatTemplate:
    return ChatTemplate(template, "chat_template.jinja", {"bos_token": "<s>", "eos_token": "</s>"})


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("template", [CHATML, STRICT, TOOLS], ids=["chatml", "strict", "tools"])
@pytest.mark.parametrize("begin", [True, False])
def test_a_chat_is_transformers_text(
    template: str, chat: list[dict[str, Any]], begin: bool
) -> None:
    wanted = theirs(template).apply_chat_template(chat, tokenize=False, add_generation_prompt=begin)
    assert ours(template).render(chat, add_generation_prompt=begin) == wanted


def test_variables_reach_the_template() -> None:
    tools = [{"type": "function", "function": {"name": "größe", "parameters": {"b": 1, "a": []}}}]
    wanted = theirs(TOOLS).apply_chat_template(
        CHATS[0], tokenize=False, tools=tools, enable_thinking=True, add_generation_prompt=True
    )
    said = ours(TOOLS).render(CHATS[0], tools=tools, enable_thinking=True)
    assert said == wanted
    assert str(datetime.now().year) in said


@pytest.mark.parametrize("template", [CHATML, STRICT], ids=["chatml", "strict"])
@pytest.mark.parametrize("start", ["The answer is", " spaced "])
def test_the_last_message_can_be_left_open(template: str, start: str) -> None:
    chat = [*CHATS[0], {"role": "assistant", "content": start}]
    wanted = theirs(template).apply_chat_template(chat, tokenize=False, continue_final_message=True)
    assert ours(template).render(chat, continue_final_message=True) == wanted
    dropped = "{{ messages[0].content }}"
    with pytest.raises(InputError, match="drops the last message"):
        ours(dropped).render(chat, continue_final_message=True)


def test_it_is_found_where_transformers_finds_it(tmp_path: Path) -> None:
    assert ChatTemplate.from_folder(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(
        json.dumps({"chat_template": "{{ bos_token }}1", "bos_token": {"content": "<s>"}})
    )
    found = ChatTemplate.from_folder(tmp_path)
    assert found is not None
    assert found.render(CHATS[0]) == "<s>1"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    config.write_text(json.dumps({"chat_template": named}))
    found = ChatTemplate.from_folder(tmp_path)
    assert found is not None
    assert found.text == "d"
    (tmp_path / "chat_template.jinja").write_text("j")
    found = ChatTemplate.from_folder(tmp_path)
    assert found is not None
    assert found.text == "j"
    config.write_text("{")
    with pytest.raises(BundleError, match="not JSON"):
        ChatTemplate.from_folder(tmp_path)


def test_a_template_that_is_not_utf8_is_said(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe{")
    with pytest.raises(BundleError, match=r"chat_template\.jinja is not utf-8 text"):
        ChatTemplate.from_folder(tmp_path)


def test_what_a_template_refuses_is_the_users_to_change() -> None:
    with pytest.raises(InputError, match="refuses this chat: roles must alternate"):
        ours(STRICT).render([{"role": "assistant", "content": "x"}, *CHATS[0]])


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("a\nb\n{% for m in messages %}", 3),
        ("a\n{{ messages[0]['content'] + 1 }}", 2),
        ("a\n\n\n{{ nothing.there }}", 4),
        ("{{ messages | nofilter }}", 1),
    ],
)
def test_a_broken_template_is_said_with_its_line(template: str, line: int) -> None:
    with pytest.raises(BundleError) as error:
        ours(template).render(CHATS[0])
    assert f"chat_template.jinja, line {line}" in str(error.value)
    assert str(error.value).count("broken") == 1
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__.os }}",
        "{{ cycler.__init__.__globals__.os }}",
    ],
)
def test_a_template_reaches_nothing_but_the_chat(template: str) -> None:
    with pytest.raises(BundleError, match="broken"):
        ours(template).render(CHATS[0])


DOUBLE = "{%% set n = namespace(x=%s, y=%s) %%}{%% for i in range(60) %%}%s{%% endfor %%}{{ %s }}"
LISTS = ("['a']", "['a']", "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 'a' * 10**10 }}", "one call"),
        ("{{ 10**10 * [0] }}", "one call"),
        ("{{ 9**(9**9) }}", "digits"),
        ("{{ '%10000000000d' % 3 }}", "one call"),
        ("{{ '%10000000000d' | format(3) }}", "one call"),
        ("{{ '{:10000000000}'.format(3) }}", "one call"),
        ("{{ '{:{w}}'.format(3, w=10**10) }}", "computes the width"),
        ("{{ '{:{a[0]}}'.format(3, a=[200000000]) }}", "computes the width"),
        ("{{ '%*d' % (200000000, 1) }}", "computes the width"),
        ("{{ '%.*f' | format(200000000, 1.0) }}", "computes the width"),
        ("{% set t = 'x' * 9**7 %}{% for i in range(50) %}{% set u = t[1:] %}{% endfor %}", "100,"),
        ("{{ 'a'.center(10**10) }}", "one call"),
        ("{{ 'a' | center(10**10) }}", "one call"),
        ("{{ messages | tojson(indent=10**10) }}", "one call"),
        ("{{ ['a'] | map('center', 10**10) | join }}", "one call"),
        ("{{ ('a' * 9999).replace('a', 'b' * 99999) }}", "one call"),
        ("{{ ('a' * 9999) | replace('a', 'b' * 99999) }}", "one call"),
        (DOUBLE % ("'aa'", 0, "{% set n.x = n.x + n.x %}", "n.x | length"), "10,000,000"),
        (DOUBLE % ("'aa'", 0, "{% set n.x = n.x ~ n.x %}", "n.x | length"), "10,000,000"),
        (DOUBLE % (*LISTS, "n.x"), "nests"),
        (DOUBLE % (*LISTS, "n.x | tojson"), "nests"),
        (DOUBLE % (*LISTS, "n.x == n.y"), "nests"),
        ("{% set x = 'a' * 10**6 %}{% for i in range(99999) %}{{ x }}{% endfor %}", "10,000,000"),
        ("{% set n = namespace(x=[]) %}{% for i in range(99999) %}"
         "{% set n.x = n.x + ['a' * 10**6 ~ i] %}{% endfor %}", "100,000,000"),
        ("{% for i in range(10**9) %}x{% endfor %}", "Range too big"),
        ("{{ lipsum(n=10**6) }}", "'lipsum' is undefined"),
    ],
)  # fmt: skip
def test_a_template_that_multiplies_is_stopped(template: str, said: str) -> None:
    """Each of these would fill the memory, or not end."""
    with pytest.raises(BundleError, match=r"chat_template\.jinja.*" + said):
        ours(template).render(CHATS[0])


def test_a_template_may_write_large_numbers_and_cut_texts() -> None:
    text = "{{ '%d %s' % (1700000000, 'a') }} {{ '{}'.format(1700000000) }} {{ 'hello'[1:3] }}"
    assert ours(text).render(CHATS[0]) == "1700000000 a 1700000000 el"


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    ],
)
def test_a_template_that_does_not_end_is_stopped(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 0.1)
    with pytest.raises(BundleError, match="it runs for more than"):
        ours(template).render(CHATS[0])


def test_a_chat_as_long_as_any_context_is_no_multiplication() -> None:
    long = [{"role": "user", "content": "word " * 200_000}, *CHATS[2]]
    for template in (CHATML, TOOLS):
        wanted = theirs(template).apply_chat_template(long, tokenize=False)
        assert ours(template).render(long, add_generation_prompt=False) == wanted
    cut = "{{ messages[0].content.replace('word', 'letters') | replace('letters', 'word') | trim }}"
    assert ours(cut).render(long) == long[0]["content"].strip()
    users = (
        "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join }}"
    )
    assert len(ours(users).render(long)) == len(long[0]["content"]) + len("onethree")


def test_what_is_no_chat_is_refused() -> None:
    assert is_chat(CHATS[0])
    assert not is_chat("Hi")
    assert not is_chat(["Hi"])
    for wrong in ([], "Hi", {"role": "user"}):
        with pytest.raises(InputError, match="a chat is a list"):
            ours(CHATML).render(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError) as error:
        ours(CHATML).render([{"role": "user"}, *CHATS[0], {"text": "x"}])
    assert "message 0" in str(error.value)
    assert "message 2" in str(error.value)

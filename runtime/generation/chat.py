"""Chat messages to the one text that a model was trained to answer, by its own template.

A template is code from a stranger: it runs in a sandbox with bounds (sandbox.py), sees nothing but
plain values, and gets the helpers that transformers gives it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edgetfm.errors import BundleError, InputError, listed

if TYPE_CHECKING:
    from jinja2 import Template

Message = Mapping[str, Any]
"""One turn: {"role": "system" | "user" | "assistant" | ..., "content": text}."""

_TAG = "\N{SYMBOL FOR START OF TEXT}\N{SYMBOL FOR END OF TEXT}"
"""Marks where a message ends that is to be continued; no text has it. The space after it tells
whether the template trims messages."""

_CONFIG, _FILE = "tokenizer_config.json", "chat_template.jinja"


@dataclass(frozen=True)
class ChatTemplate:
    """A model's template. source: the file it came from; tokens: bos_token and the like."""

    text: str
    source: str
    tokens: Mapping[str, str]

    @classmethod
    def from_folder(cls, folder: Path) -> Self | None:
        """The template of a bundle; None if it has none. BundleError if it cannot be read.

        chat_template.jinja comes before what tokenizer_config.json holds, and of several
        templates there the one called `default` is taken.
        """
        config = _json(folder / _CONFIG)
        special = _json(folder / "special_tokens_map.json") | config
        tokens = {
            name: text
            for name, value in special.items()
            if name.endswith("_token") and (text := _content(value)) is not None
        }
        if (folder / _FILE).is_file():
            return cls(_utf8(folder / _FILE), _FILE, tokens)
        found = config.get("chat_template")
        if isinstance(found, list):
            named = {t.get("name"): t.get("template") for t in found if isinstance(t, Mapping)}
            found = named.get("default")
        if found is None:
            return None
        if not isinstance(found, str):
            raise BundleError(f"{folder / _CONFIG}: chat_template is {found!r:.60}, expected text")
        return cls(found, _CONFIG, tokens)

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> str:
        """The text for these messages, up to where the answer starts.

        continue_final_message: the last message is the start of the answer, left open.
        variables: others that the template knows, such as `tools` or `enable_thinking`.
        Raises InputError if the messages are none or the template refuses them, BundleError if
        the template is broken; both name its line.
        """
        from edgetfm.runtime.generation.sandbox import metered

        chat = checked_messages(messages)
        open_end = chat[-1]["content"] if continue_final_message else None
        if open_end is not None:
            if not isinstance(open_end, str):
                raise InputError("the last message is to be continued: its content must be text")
            chat[-1]["content"] = f"{open_end}{_TAG} "
        given = {"tools": None, "documents": None, **_plain(variables)}
        compiled = self._compiled
        try:
            with metered():
                text = compiled.render(
                    **{**self.tokens, **given},
                    messages=chat,
                    add_generation_prompt=add_generation_prompt and open_end is None,
                )
        except _Refused as error:
            raise InputError(f"the model's chat template refuses this chat: {error}") from error
        except Exception as error:  # whatever the template's expressions raise
            raise self._broken(error) from error
        return text if open_end is None else _cut(text)

    @cached_property
    def _compiled(self) -> Template:
        from jinja2.exceptions import TemplateError

        from edgetfm.runtime.generation.sandbox import TooMuch, metered

        try:
            with metered():  # constants are computed here
                template: Template = _environment().from_string(self.text)
        except (TemplateError, TooMuch, RecursionError) as error:
            raise self._broken(error) from error
        return template

    def _broken(self, error: Exception) -> BundleError:
        line = getattr(error, "lineno", None) or _line(error)
        where = f"{self.source}, line {line}" if line else self.source
        said = " ".join(str(error).split()) or type(error).__name__
        return BundleError(f"the chat template of this model is broken ({where}): {said}")


def checked_messages(messages: Any) -> list[dict[str, Any]]:
    """The messages as plain dicts; InputError lists what is wrong with them."""
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise InputError("a chat is a list of messages such as {'role': 'user', 'content': 'Hi'}")
    problems = [
        f"message {i} is {message!r:.60}, expected {{'role': ..., 'content': ...}}"
        for i, message in enumerate(messages)
        if not (isinstance(message, Mapping) and {"role", "content"} <= set(message))
    ]
    if problems:
        raise InputError(listed(problems))
    return [_with_reasoning(_plain(message)) for message in messages]


_REASONING = ("reasoning_content", "thinking", "reasoning")


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """The message with what it thought under the two names that templates read."""
    thought = next((message[key] for key in _REASONING if message.get(key) is not None), None)
    return message if thought is None else {"thinking": thought, **message, _REASONING[0]: thought}


def is_chat(value: Any) -> bool:
    """Whether this is meant as one chat: a list whose first item is a message."""
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Mapping)


class _Refused(Exception):
    """What a template raises on purpose."""


def _environment() -> Any:
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols

    from edgetfm.runtime.generation.sandbox import Sandbox

    class Generation(Extension):
        """`{% generation %}` marks an assistant's text for training; here it is only text."""

        tags = {"generation"}  # noqa: RUF012  (Jinja's name and form)

        def parse(self, parser: Any) -> Any:
            """The block's content as it stands."""
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    environment = Sandbox(
        {"tojson": _tojson},
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, loopcontrols],
    )
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _refuse(message: str) -> None:
    raise _Refused(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own would escape HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _plain(value: Any) -> Any:
    """The value in JSON's types; anything else is its type's name, and has no methods to call."""
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return f"<{type(value).__name__}>"


def _cut(text: str) -> str:
    """The text up to the mark; a template that trims messages has the open one trimmed too."""
    at = text.rfind(_TAG)
    if at < 0:
        raise InputError("the model's chat template drops the last message: it cannot go on")
    kept_space = text.startswith(" ", at + len(_TAG))
    return text[:at] if kept_space else text[:at].rstrip()


def _line(error: BaseException) -> int | None:
    """The line of the template in which the error was raised."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise BundleError(f"{path} holds a {type(data).__name__}, expected an object")
    return data


def _utf8(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is not {error.encoding} text ({error.reason})") from error


def _content(token: Any) -> str | None:
    """A special token is written as text, or as an object with its content."""
    value = token.get("content") if isinstance(token, Mapping) else token
    return value if isinstance(value, str) else None

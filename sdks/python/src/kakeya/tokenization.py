"""Tokens of texts and chats. Text never crosses the gRPC port, so these are made on the client's side.

Opt-in: nothing else of the package needs this module. Any tokenizer of `transformers` will do where a `ChatTokenizer` is
asked for; `ServerTokenizer` asks the server's HTTP port and needs nothing besides; `FileTokenizer` reads a model's own
files, and needs `pip install kakeya[tokenizers]`.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from kakeya._channel import KEY_VARIABLE
from kakeya.errors import InvalidArgumentError, InvalidInputError, ServerUnreachableError, UnauthenticatedError

#: A message of a chat, as templates take them: `role`, `content`, and what a template knows besides.
Message = Mapping[str, Any]

# Stands for an answer in a template, to find where the text after it begins.
_ANSWER = "kakeya-answer-goes-here"


class ChatTokenizer(Protocol):
    """What the functions of this module need of a tokenizer: what those of `transformers` have."""

    def apply_chat_template(self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool, **kwargs: Any) -> Any:
        """The text that a chat becomes (with tokenize=False)."""

    def encode(self, text: str, *, add_special_tokens: bool) -> Any:
        """The tokens of a text, as a list of ids."""

    def decode(self, token_ids: Any) -> Any:
        """The text of tokens."""


def tokens_for_chat(
    messages: Sequence[Message], tokenizer: ChatTokenizer, *, add_generation_prompt: bool = True, **variables: Any
) -> list[int]:
    """The tokens of a whole chat, in the model's own template; by default up to where the model is to answer.

    `variables` are what the template is told besides, such as `enable_thinking=False` for Qwen3.
    """
    return _encode(tokenizer, _render(tokenizer, messages, add_generation_prompt, variables))


def tokens_for_turn(
    messages: Sequence[Message], tokenizer: ChatTokenizer, *, last_token: int | None, **variables: Any
) -> list[int]:
    """The tokens that take a session from the end of an answer to where the model is to answer `messages`.

    `last_token` is the session's last one, or None where that is not known: the end token of an answer belongs to the
    template, so it is left out here if the answer has it already, and there if it was cut short.
    """
    before = [{"role": "user", "content": "-"}, {"role": "assistant", "content": _ANSWER}]
    text = _render(tokenizer, [*before, *messages], True, variables)
    _, found, tail = text.partition(_ANSWER)
    if not found:
        raise InvalidInputError("the chat template leaves answers out, so a turn cannot be told from the chat before it")
    tokens = _encode(tokenizer, tail)
    return tokens[1:] if tokens[:1] == [last_token] else tokens


def from_openai_messages(messages: Iterable[Any]) -> list[dict[str, Any]]:
    """Messages as OpenAI's client has them, dicts or its own objects, as chat templates take them.

    Parts of text become one text, `developer` becomes `system`, and the arguments of tool calls become values. What is not
    text, such as an image, is refused by name.
    """
    return [_plain(index, message) for index, message in enumerate(messages)]


class StreamDecoder:
    """Tokens to text, one by one: a character is told when all its bytes are there, and only then."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        # The tokens whose text is told, as far as the next one's depends on them, and those that wait.
        self._tokens: list[int] = []
        self._told = 0

    def push(self, token: int) -> str:
        """The text that this token completes, which may be none."""
        self._tokens.append(token)
        return self._take(whole=False)

    def finish(self) -> str:
        """What is left at the end, with the mark for bytes that are no character."""
        return self._take(whole=True)

    def _take(self, *, whole: bool) -> str:
        before: str = self._tokenizer.decode(self._tokens[: self._told])
        text: str = self._tokenizer.decode(self._tokens)
        if len(text) <= len(before) or (text.endswith("\ufffd") and not whole):
            return ""
        # The last told one stays, since some tokenizers write a word's first token differently at a text's beginning.
        self._tokens = self._tokens[self._told :]
        self._told = len(self._tokens)
        return text[len(before) :]


class ServerTokenizer:
    """The served model's own tokenizer and chat template, over the server's HTTP port (`kakeya serve --http`)."""

    def __init__(self, url: str = "http://127.0.0.1:8080", *, key: str | None = None, timeout: float = 30.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidInputError(f"the address is {url!r}, and must begin with http:// or https://")
        self._url = url.rstrip("/")
        self._key = os.environ.get(KEY_VARIABLE) if key is None else key
        self._timeout = timeout
        self._model: dict[str, Any] | None = None

    @property
    def model(self) -> str:
        """What the server calls its model."""
        return str(self._facts()["id"])

    @property
    def eos_token_ids(self) -> list[int]:
        """The tokens that end an answer, for `Client.session`."""
        return [int(token) for token in self._facts()["eos_token_ids"]]

    def apply_chat_template(
        self, conversation: Sequence[Message], *, tokenize: bool = True, add_generation_prompt: bool = True, **kwargs: Any
    ) -> Any:
        """The tokens of a chat, or its text."""
        body = {
            "messages": list(conversation),
            "add_generation_prompt": add_generation_prompt,
            "chat_template_kwargs": kwargs,
        }
        tokens = self._ask("/tokenize", body)["tokens"]
        return tokens if tokenize else self.decode(tokens)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """The tokens of a text. The text of a control token stands for that token."""
        return list(self._ask("/tokenize", {"prompt": text, "add_special_tokens": add_special_tokens})["tokens"])

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, with that of control tokens."""
        return str(self._ask("/detokenize", {"tokens": list(token_ids)})["prompt"]) if token_ids else ""

    def _facts(self) -> dict[str, Any]:
        if self._model is None:
            self._model = self._ask("/v1/models")["data"][0]
        return self._model

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        headers = {"content-type": "application/json"}
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            detail = _message_of(error)
            if error.code == 401:
                raise UnauthenticatedError(detail) from error
            raise InvalidArgumentError(f"{self._url}{path} answered {error.code}: {detail}") from error
        except (OSError, ValueError) as error:
            advice = "start the server with `--http 127.0.0.1:8080`, and give the address it prints after `http listening on`"
            raise ServerUnreachableError(f"no HTTP port of a server at {self._url} ({error})", advice=advice) from error


class FileTokenizer:
    """A model's own tokenizer files: tokenizer.json, tokenizer_config.json and chat_template.jinja of a folder."""

    def __init__(self, folder: str | Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise InvalidInputError("FileTokenizer needs the package tokenizers", advice=_INSTALL) from error
        folder = Path(folder)
        if not (folder / "tokenizer.json").is_file():
            advice = "give the folder of a model, or ask the server with ServerTokenizer"
            raise InvalidInputError(f"{folder} has no tokenizer.json", advice=advice)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = _json_of(folder / "tokenizer_config.json")
        self._specials = {name: _token_text(config.get(name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
        beside = folder / "chat_template.jinja"
        template = beside.read_text(encoding="utf-8") if beside.is_file() else config.get("chat_template")
        self._template = None if template is None else str(template)
        ends = _json_of(folder / "generation_config.json").get("eos_token_id")
        if ends is None and self._specials["eos_token"] is not None:
            ends = self._tokenizer.token_to_id(self._specials["eos_token"])
        #: The tokens that end an answer, for `Client.session`.
        self.eos_token_ids: list[int] = ends if isinstance(ends, list) else [] if ends is None else [ends]

    def apply_chat_template(
        self, conversation: Sequence[Message], *, tokenize: bool = True, add_generation_prompt: bool = True, **kwargs: Any
    ) -> Any:
        """The tokens of a chat, or its text."""
        if self._template is None:
            raise InvalidInputError("these files have no chat template", advice="is it a base model? use encode()")
        specials = {name: text for name, text in self._specials.items() if text is not None}
        variables = {**specials, "add_generation_prompt": add_generation_prompt, **kwargs}
        text = render_template(self._template, conversation, variables)
        return self.encode(text, add_special_tokens=False) if tokenize else text

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """The tokens of a text. The text of a control token stands for that token."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, with that of control tokens."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=False))


def render_template(template: str, messages: Sequence[Message], variables: Mapping[str, Any]) -> str:
    """The text that a chat becomes, with the settings and functions that `transformers` gives its templates."""
    try:
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise InvalidInputError("chat templates need the package jinja2", advice=_INSTALL) from error

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    try:
        return environment.from_string(template).render(messages=list(messages), **variables)
    except TemplateError as error:
        raise InvalidInputError(f"the chat template refuses the messages: {error}") from error


_INSTALL = "pip install 'kakeya[tokenizers]'"


def _render(
    tokenizer: ChatTokenizer, messages: Sequence[Message], add_generation_prompt: bool, variables: Mapping[str, Any]
) -> str:
    if isinstance(messages, (str, bytes, Mapping)) or not messages:
        advice = 'give [{"role": "user", "content": "..."}]'
        raise InvalidInputError(f"messages is {messages!r}, and must be a list of one or more messages", advice=advice)
    text = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=add_generation_prompt, **variables
    )
    return str(text)


def _encode(tokenizer: ChatTokenizer, text: str) -> list[int]:
    return [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]


def _plain(index: int, message: Any) -> dict[str, Any]:
    if hasattr(message, "model_dump"):
        message = message.model_dump(exclude_none=True)
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InvalidInputError(f"message {index} is {message!r}, and must have a role")
    kept = {name: message[name] for name in ("name", "tool_call_id") if message.get(name) is not None}
    role = "system" if message["role"] == "developer" else message["role"]
    plain = {"role": role, "content": _content(index, message.get("content")), **kept}
    if message.get("tool_calls"):
        plain["tool_calls"] = [_tool_call(index, call) for call in message["tool_calls"]]
    return plain


def _content(index: int, content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, Iterable):
        raise InvalidInputError(f"the content of message {index} is {content!r}, and must be a text or parts of one")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise InvalidInputError(f"message {index} has a part of type {kind!r}, and only text can be sent")
        texts.append(part["text"])
    return "".join(texts)


def _tool_call(index: int, call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    if isinstance(function.get("arguments"), str):
        try:
            function["arguments"] = json.loads(function["arguments"])
        except ValueError as error:
            raise InvalidInputError(f"message {index} has a tool call whose arguments are no JSON: {error}") from error
    return {**call, "function": function}


def _message_of(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _json_of(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _token_text(token: Any) -> str | None:
    return str(token["content"]) if isinstance(token, Mapping) else token

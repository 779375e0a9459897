"""Messages and templates, which need no tokenizer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kakeya.errors import InvalidInputError, ServerUnreachableError
from kakeya.tokenization import FileTokenizer, ServerTokenizer, from_openai_messages, render_template, tokens_for_chat

GOLDENS = Path(__file__).parents[4] / "gates" / "goldens" / "chat-templates.json"


def test_templates_render_as_transformers_does() -> None:
    golden = json.loads(GOLDENS.read_text())
    for case in golden["cases"]:
        template = golden["templates"][case["template"]]
        variables = {
            "bos_token": template["bos_token"],
            "eos_token": template["eos_token"],
            "add_generation_prompt": case["add_generation_prompt"],
            **case.get("variables", {}),
        }
        if case.get("tools"):
            variables["tools"] = case["tools"]
        if "refused" in case:
            with pytest.raises(InvalidInputError, match=re.escape(case["refused"])):
                render_template(template["text"], case["messages"], variables)
        else:
            assert render_template(template["text"], case["messages"], variables) == case["text"], case
    assert len(golden["cases"]) > 20


def test_a_template_that_refuses_says_why() -> None:
    with pytest.raises(InvalidInputError, match="refuses the messages: no tools"):
        render_template("{{ raise_exception('no tools') }}", [{"role": "user", "content": "a"}], {})


def test_openai_messages_become_plain_ones() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    given = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "3"},
    ]
    assert from_openai_messages(given) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one two"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "3", "tool_call_id": "c"},
    ]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("hello", "message 0 is 'hello', and must have a role"),
        ({"content": "a"}, "must have a role"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "a part of type 'image_url', and only text"),
        ({"role": "user", "content": 7}, "content of message 0 is 7"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "arguments are no JSON",
        ),
    ],
)
def test_messages_that_cannot_be_sent_are_named(message: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        from_openai_messages([message])


def test_no_messages_are_refused_before_anybody_is_asked() -> None:
    nobody = ServerTokenizer("http://127.0.0.1:1")
    nothings: list[Any] = [[], "hello", {"role": "user"}]
    for nothing in nothings:
        with pytest.raises(InvalidInputError, match="must be a list of one or more messages"):
            tokens_for_chat(nothing, nobody)
    with pytest.raises(ServerUnreachableError, match="start the server with `--http"):
        tokens_for_chat([{"role": "user", "content": "a"}], nobody)
    with pytest.raises(InvalidInputError, match="must begin with http"):
        ServerTokenizer("127.0.0.1:8080")


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="has no tokenizer.json - give the folder of a model"):
        FileTokenizer(tmp_path)

"""Conversations with the real model, and its own tokenizer."""

from __future__ import annotations

import urllib.request
import json

import pytest

from kakeya import Client
from kakeya.chat import Conversation
from kakeya.errors import InvalidArgumentError
from kakeya.tokenization import ServerTokenizer, StreamDecoder, from_openai_messages, tokens_for_chat, tokens_for_turn

QUESTIONS = ("What is the capital of France?", "And of Italy?", "Which of the two is further north?")


def test_three_turns_read_each_token_once(client: Client, tokenizer: ServerTokenizer) -> None:
    ends = tokenizer.eos_token_ids
    assert ends
    with client.session(eos_token_ids=ends) as session:
        conversation = Conversation(session, tokenizer, system="Answer briefly.")
        messages = [{"role": "system", "content": "Answer briefly."}]
        for question in QUESTIONS:
            messages.append({"role": "user", "content": question})
            answer = "".join(conversation.say(question, max_tokens=60))
            assert conversation.done is not None and answer and "<|im_end|>" not in answer
            messages.append({"role": "assistant", "content": answer})
        # The session holds what the template makes of the whole chat, up to the last answer's end.
        whole = tokens_for_chat(messages, tokenizer, add_generation_prompt=False)
        text, held = tokenizer.decode(whole), session.info().history_length
        assert conversation.done is not None
        if conversation.done.stop_reason.name == "EOS":
            assert text.endswith("<|im_end|>\n")
            assert held == len(whole) - 1


def test_an_answer_is_that_of_the_http_port(client: Client, tokenizer: ServerTokenizer) -> None:
    messages = [{"role": "user", "content": QUESTIONS[0]}]
    body = {"model": tokenizer.model, "messages": messages, "max_tokens": 24, "temperature": 0}
    request = urllib.request.Request(
        tokenizer._url + "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=100) as answer:
        expected = json.load(answer)["choices"][0]["message"]["content"]
    with client.session(eos_token_ids=tokenizer.eos_token_ids) as session:
        assert "".join(Conversation(session, tokenizer).say(QUESTIONS[0], max_tokens=24)) == expected


def test_an_answer_that_was_cut_short_is_ended_by_the_next_turn(client: Client, tokenizer: ServerTokenizer) -> None:
    (end,) = tokenizer.encode("<|im_end|>")
    said = [{"role": "user", "content": "Go on."}]
    whole = tokens_for_turn(said, tokenizer, last_token=None)
    assert whole[0] == end
    assert tokens_for_turn(said, tokenizer, last_token=end) == whole[1:]
    assert tokenizer.decode(whole) == "<|im_end|>\n<|im_start|>user\nGo on.<|im_end|>\n<|im_start|>assistant\n"
    with client.session(eos_token_ids=tokenizer.eos_token_ids) as session:
        conversation = Conversation(session, tokenizer)
        for piece in conversation.say("Count from one to a hundred.", max_tokens=200):
            break
        assert piece and conversation.done is None
        assert "".join(conversation.say("Stop.", max_tokens=4))


def test_characters_come_whole(tokenizer: ServerTokenizer) -> None:
    text = "naïve 🙂 漢字, עברית\n\n  indented 👩‍👩‍👧 end"
    decoder = StreamDecoder(tokenizer)
    pieces = [decoder.push(token) for token in tokenizer.encode(text)]
    assert "".join(pieces) + decoder.finish() == text
    assert not any("\ufffd" in piece for piece in pieces)
    # A character that is cut off is marked, and only at the end.
    cut = StreamDecoder(tokenizer)
    assert [cut.push(token) for token in tokenizer.encode("🙂")[:1]] == [""]
    assert "\ufffd" in cut.finish()


def test_openai_messages_become_tokens(tokenizer: ServerTokenizer) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    plain = [{"role": "user", "content": "Hi"}]
    assert tokens_for_chat(from_openai_messages(parts), tokenizer) == tokens_for_chat(plain, tokenizer)
    assert tokenizer.apply_chat_template(plain) == tokens_for_chat(plain, tokenizer)
    assert tokenizer.apply_chat_template(plain, tokenize=False).endswith("<|im_start|>assistant\n")


def test_the_http_port_says_what_was_wrong(tokenizer: ServerTokenizer) -> None:
    with pytest.raises(InvalidArgumentError, match="/detokenize answered 400: .*tokens"):
        tokenizer.decode([10**9])

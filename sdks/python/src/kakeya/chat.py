"""A conversation in one session: each turn sends its own tokens, and no earlier ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typing_extensions import Unpack

from kakeya.client import Generation, Session
from kakeya.tokenization import ChatTokenizer, StreamDecoder, tokens_for_chat, tokens_for_turn
from kakeya.types import Done, GenerateOptions


class Conversation:
    """Says and answers in turns, in `session`, which must be a fresh one.

    `variables` are what the chat template is told besides, such as `enable_thinking=False`.
    """

    def __init__(self, session: Session, tokenizer: ChatTokenizer, *, system: str | None = None, **variables: Any) -> None:
        self.session = session
        self._tokenizer = tokenizer
        self._variables = variables
        self._first = [] if system is None else [{"role": "system", "content": system}]
        self._begun = False
        self._last_token: int | None = None
        #: How the latest answer ended; None before the first, and where it was left before its end.
        self.done: Done | None = None

    def say(self, text: str, *, max_tokens: int = 512, **options: Unpack[GenerateOptions]) -> Iterator[str]:
        """The answer to `text`, in pieces as they come. Leaving the loop stops it, and the next turn goes on from there."""
        said = [{"role": "user", "content": text}]
        if self._begun:
            tokens = tokens_for_turn(said, self._tokenizer, last_token=self._last_token, **self._variables)
        else:
            tokens = tokens_for_chat([*self._first, *said], self._tokenizer, **self._variables)
        self.session.append(tokens)
        self._begun, self._last_token, self.done = True, None, None
        return self._answer(self.session.generate(max_tokens, **options))

    def _answer(self, generation: Generation) -> Iterator[str]:
        decoder = StreamDecoder(self._tokenizer)
        held: int | None = None
        with generation:
            for token in generation:
                if held is not None and (piece := decoder.push(held)):
                    yield piece
                held = token
        self.done = generation.done
        # Known only where all of the answer was read: one that is stopped may have gone on by a few tokens.
        if self.done is not None:
            self._last_token = held
        # The last token is told last, since an end token is not part of the answer.
        if held is not None and not (self.done is not None and self.done.stop_reason.name == "EOS"):
            if piece := decoder.push(held):
                yield piece
        if piece := decoder.finish():
            yield piece

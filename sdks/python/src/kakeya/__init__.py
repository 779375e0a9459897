"""Client of Kakeya: long sessions with a language model on a bounded KV cache.

The server keeps a session's token history and a cache of fixed size, so a turn costs only its new tokens.

    with Client("127.0.0.1:50051") as client, client.session() as session:
        session.append(token_ids)
        for token in session.generate(max_tokens=64):
            ...

`kakeya.aio` is the same for asyncio, `kakeya.tokenization` makes tokens of texts and chats, `kakeya.chat` keeps a
conversation, and `kakeya.errors` has what can go wrong.
"""

from kakeya._channel import TLS
from kakeya.client import Client, Generation, Session
from kakeya.errors import KakeyaError
from kakeya.types import Done, GenerateOptions, SessionInfo, SessionSummary, StateDigest, StopReason, TokenLogprobs

__version__ = "0.1.0"

__all__ = [
    "TLS",
    "Client",
    "Done",
    "GenerateOptions",
    "Generation",
    "KakeyaError",
    "Session",
    "SessionInfo",
    "SessionSummary",
    "StateDigest",
    "StopReason",
    "TokenLogprobs",
]

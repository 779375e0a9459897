"""Requests, checked before they are sent: a message of protobuf would not say which value was wrong."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator

from kakeya.errors import InvalidInputError, MessageTooLargeError
from kakeya.types import GenerateOptions
from kakeya.v1 import runtime_pb2 as pb
from kakeya.v1 import session_pb2 as session_pb

#: Bytes of one message that the server reads.
MAX_MESSAGE = 4 << 20
#: A snapshot is sent in messages of so many bytes.
CHUNK = 1 << 20
_UINT32 = (1 << 32) - 1
_FLOATS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
_KNOWN = {*_FLOATS, "seed", "top_k", "logit_bias", "stop_sequences", "top_logprobs"}


def unsigned(name: str, value: object, bits: int) -> int:
    """A whole number of so many bits."""
    limit = (1 << bits) - 1
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidInputError(f"{name} is {_shown(value)}, and must be a whole number from 0 to {limit}") from None
    if not 0 <= number <= limit:
        raise InvalidInputError(f"{name} is {_shown(number)}, and must be from 0 to {limit}")
    return number


def token_ids(name: str, values: Iterable[int]) -> list[int]:
    """Token ids. An error of the iterable itself passes as it is, and nothing has been sent by then."""
    advice = "kakeya.tokenization makes token ids of texts"
    if isinstance(values, (str, bytes)):
        raise InvalidInputError(f"{name} is {_shown(values)}, and must be token ids", advice=advice)
    try:
        iterator = iter(values)
    except TypeError:
        message = f"{name} is {_shown(values)}, and must be an iterable of token ids"
        raise InvalidInputError(message, advice=advice) from None
    ids: list[int] = []
    for index, value in enumerate(iterator):
        # A name for each of a million would take longer than all else.
        plain = type(value) is int and 0 <= value <= _UINT32
        ids.append(value if plain else unsigned(f"{name}[{index}]", value, 32))
        # Each takes a byte or more, so an iterator without end is not read for ever.
        if len(ids) > MAX_MESSAGE:
            raise MessageTooLargeError(f"{name} has more than {MAX_MESSAGE} tokens, and one message holds 4 MiB")
    return ids


def real(name: str, value: object) -> float:
    """A number that can be compared; its range is the server's to know."""
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidInputError(f"{name} is {_shown(value)}, and must be a number") from None
    if not math.isfinite(number):
        raise InvalidInputError(f"{name} is {number}, and must be finite")
    return number


def text(name: str, value: object) -> str:
    """A text that can be sent as UTF-8."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} is {_shown(value)}, and must be a str")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"{name} is {_shown(value)}, which has surrogates that UTF-8 cannot write") from None
    return value


def timeout(value: float | None) -> float | None:
    """Seconds from now, or no limit. 0 is a deadline that has passed."""
    if value is None:
        return None
    seconds = real("timeout", value)
    if seconds < 0:
        raise InvalidInputError(f"timeout is {value}, and must be 0 or more seconds, or None for no limit")
    return seconds


def create(label: str, eos_token_ids: Iterable[int]) -> pb.CreateSessionRequest:
    """A CreateSessionRequest."""
    ends = token_ids("eos_token_ids", eos_token_ids)
    return pb.CreateSessionRequest(client_label=text("label", label), eos_token_ids=ends)


def append(session_id: str, ids: Iterable[int]) -> pb.AppendTokensRequest:
    """An AppendTokensRequest."""
    request = pb.AppendTokensRequest(session_id=session_id, token_ids=token_ids("token_ids", ids))
    if request.ByteSize() > MAX_MESSAGE:
        message = f"{len(request.token_ids)} tokens take {request.ByteSize()} bytes, and one message holds 4 MiB"
        raise MessageTooLargeError(message)
    return request


def generate(session_id: str, max_tokens: int, options: GenerateOptions) -> pb.GenerateRequest:
    """A GenerateRequest."""
    unknown = sorted(set(options) - _KNOWN)
    if unknown:
        raise InvalidInputError(f"{unknown[0]!r} is no option: there are {', '.join(sorted(_KNOWN))}")
    request = pb.GenerateRequest(session_id=session_id, max_tokens=unsigned("max_tokens", max_tokens, 32))
    for name in _FLOATS:
        value = options.get(name)
        if value is not None:
            setattr(request, name, real(name, value))
    for name, bits in (("seed", 64), ("top_k", 32), ("top_logprobs", 32)):
        value = options.get(name)
        if value is not None:
            setattr(request, name, unsigned(name, value, bits))
    for token, bias in options.get("logit_bias", {}).items():
        entry = pb.TokenBias(token_id=unsigned("a token of logit_bias", token, 32), bias=real("logit_bias", bias))
        request.logit_bias.append(entry)
    for index, sequence in enumerate(options.get("stop_sequences", ())):
        ids = token_ids(f"stop_sequences[{index}]", sequence)
        request.stop_sequences.append(pb.TokenSequence(token_ids=ids))
    return request


def chunks(snapshot: bytes | Iterable[bytes]) -> Iterator[session_pb.SnapshotChunk]:
    """A snapshot in messages that are not too large."""
    pieces = (snapshot,) if isinstance(snapshot, (bytes, bytearray, memoryview)) else snapshot
    for piece in pieces:
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise InvalidInputError(f"a piece of the snapshot is {_shown(piece)}, and must be bytes")
        for at in range(0, len(piece), CHUNK):
            yield session_pb.SnapshotChunk(data=bytes(piece[at : at + CHUNK]))


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."

"""What calls take and answer, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from typing_extensions import TypedDict

from kakeya.v1 import runtime_pb2 as pb
from kakeya.v1 import session_pb2 as session_pb


class StopReason(Enum):
    """Why a generation ended."""

    #: As many tokens as were asked for.
    MAX_TOKENS = pb.GenerateDone.STOP_REASON_MAX_TOKENS
    #: An end token, which was emitted and is part of the history.
    EOS = pb.GenerateDone.STOP_REASON_EOS
    #: The session was closed, or the server is stopping.
    CANCELLED = pb.GenerateDone.STOP_REASON_CANCELLED
    #: The model's context is used up; only with `--window full`.
    TRUNCATED = pb.GenerateDone.STOP_REASON_TRUNCATED
    #: A stop sequence was completed; its tokens were emitted.
    STOP_SEQUENCE = pb.GenerateDone.STOP_REASON_STOP_SEQUENCE
    #: One that this version of the package does not know.
    UNKNOWN = pb.GenerateDone.STOP_REASON_UNSPECIFIED


class GenerateOptions(TypedDict, total=False):
    """How tokens are drawn, as GenerateRequest of `runtime.proto` says. Left out: greedy decoding."""

    seed: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    logit_bias: Mapping[int, float]
    stop_sequences: Iterable[Iterable[int]]
    top_logprobs: int


@dataclass(frozen=True)
class Done:
    """How a generation ended."""

    stop_reason: StopReason
    generated_token_count: int
    #: Seconds up to the first token.
    prefill_duration_seconds: float
    #: Seconds in all.
    total_duration_seconds: float

    @classmethod
    def of(cls, message: pb.GenerateDone) -> Done:
        """The message as a value."""
        known = {reason.value: reason for reason in StopReason}
        return cls(
            known.get(message.stop_reason, StopReason.UNKNOWN),
            message.generated_token_count,
            message.prefill_duration_seconds,
            message.total_duration_seconds,
        )


@dataclass(frozen=True)
class TokenLogprobs:
    """What the model thought of a token that was generated: natural logarithms of probabilities."""

    token_id: int
    logprob: float
    #: The likeliest tokens and their log-probabilities, the likeliest first.
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class SessionInfo:
    """What is known of a session."""

    history_length: int
    #: Bytes of keys and values in use: those of cached positions, not what the slab could hold.
    kv_live_bytes: int
    #: Violations of INV-1 and INV-2 since the server started, over all its sessions.
    inv1_violations: int
    inv2_violations: int
    idle_seconds: float

    @classmethod
    def of(cls, message: pb.GetSessionInfoResponse) -> SessionInfo:
        """The message as a value."""
        return cls(
            message.history_length,
            message.kv_live_bytes,
            message.cache_invariant_inv1_violations,
            message.cache_invariant_inv2_violations,
            message.idle_seconds,
        )


@dataclass(frozen=True)
class SessionSummary:
    """One live session of a list."""

    session_id: str
    client_label: str
    history_length: int
    kv_live_bytes: int
    idle_seconds: float
    busy: bool

    @classmethod
    def of(cls, message: session_pb.SessionSummary) -> SessionSummary:
        """The message as a value."""
        return cls(
            message.session_id,
            message.client_label,
            message.history_length,
            message.kv_live_bytes,
            message.idle_seconds,
            message.busy,
        )


@dataclass(frozen=True)
class StateDigest:
    """Digests of a session's state, each SHA-256 in hex. Sessions with the same tokens have the same."""

    history_length: int
    history_sha256: str
    kv_sha256: str
    state_sha256: str
    settings_sha256: str

    @classmethod
    def of(cls, message: session_pb.GetStateDigestResponse) -> StateDigest:
        """The message as a value."""
        return cls(
            message.history_length,
            message.history_sha256,
            message.kv_sha256,
            message.state_sha256,
            message.settings_sha256,
        )

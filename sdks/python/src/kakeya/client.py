"""The client that blocks. `kakeya.aio` has the same for asyncio."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Protocol, TypeVar

import grpc
from typing_extensions import Self, Unpack

from kakeya import _channel as channel
from kakeya import _requests as requests
from kakeya._channel import DEFAULT_TARGET, TLS, Metadata, Settings
from kakeya.errors import ClosedClientError, ForkedClientError, NotFoundError, UnavailableError, raise_from
from kakeya.types import Done, GenerateOptions, SessionInfo, SessionSummary, StateDigest, TokenLogprobs
from kakeya.v1 import runtime_pb2 as pb
from kakeya.v1 import runtime_pb2_grpc as runtime_grpc
from kakeya.v1 import session_pb2 as session_pb
from kakeya.v1 import session_pb2_grpc as session_grpc

Response = TypeVar("Response")


class Client:
    """A connection to `kakeya serve`. Threads may share one; processes may not.

    `key` is taken from KAKEYA_API_KEY where it is not given. `tls` is True for gRPC's roots, or a `TLS`. `timeout` is in
    seconds, for each call that has none of its own; None waits for as long as the server is there. Nothing connects before
    the first call.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        key: str | None = None,
        tls: bool | TLS = False,
        timeout: float | None = None,
        compress: bool = False,
    ) -> None:
        self._settings = Settings.of(target, key, tls, compress)
        self._timeout = requests.timeout(timeout)
        settings = self._settings
        options = settings.options
        if settings.credentials is None:
            self._channel = grpc.insecure_channel(settings.target, options, settings.compression)
        else:
            self._channel = grpc.secure_channel(settings.target, settings.credentials, options, settings.compression)
        self._runtime = runtime_grpc.RuntimeServiceStub(self._channel)
        self._sessions = session_grpc.SessionServiceStub(self._channel)
        self._process = os.getpid()
        self._closed = False

    @property
    def target(self) -> str:
        """The address."""
        return self._settings.target

    def session(
        self,
        *,
        eos_token_ids: Iterable[int] = (),
        label: str = "",
        route: str | None = None,
        timeout: float | None = None,
    ) -> Session:
        """Opens a session. Generations stop after one of the end tokens; without any, at max_tokens alone.

        `route` is what a proxy in front of several servers keeps its calls together by; a fresh one if it is not given.
        """
        request = requests.create(label, eos_token_ids)
        route = channel.route(route)
        return Session(self, self._call(self._runtime.CreateSession, request, timeout, route).session_id, route)

    def attach(self, session_id: str, *, route: str | None = None) -> Session:
        """A session that is there already, by its id, and by its route where there is a proxy. Asks nothing."""
        route = None if route is None else channel.route(route)
        return Session(self, requests.text("session_id", session_id), route)

    def sessions(self, *, timeout: float | None = None) -> list[SessionSummary]:
        """The live sessions of this key."""
        listed = self._call(self._sessions.ListSessions, session_pb.ListSessionsRequest(), timeout)
        return [SessionSummary.of(session) for session in listed.sessions]

    def restore(
        self, snapshot: bytes | Iterable[bytes], *, route: str | None = None, timeout: float | None = None
    ) -> Session:
        """Opens a session with what `Session.snapshot` gave, of this server or of another with the same settings."""
        # Read to its end first: an error of the iterable is then its own, and nothing has been sent.
        chunks = list(requests.chunks(snapshot))
        route = channel.route(route)
        restored = self._call(self._sessions.RestoreSession, iter(chunks), timeout, route)
        return Session(self, restored.session_id, route)

    def close(self) -> None:
        """Ends the connection, and with it the calls under way. Sessions stay; closing again does nothing."""
        self._closed = True
        if os.getpid() == self._process:
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _arguments(self, timeout: float | None, route: str | None) -> tuple[float | None, Metadata]:
        if os.getpid() != self._process:
            raise ForkedClientError(
                f"this client was made in process {self._process}, and a connection does not work in process "
                f"{os.getpid()}, which was forked from it"
            )
        if self._closed:
            raise ClosedClientError("this client is closed")
        timeout = requests.timeout(timeout)
        metadata = channel.routed(self._settings.metadata, route)
        return (self._timeout if timeout is None else timeout), metadata

    def _call(
        self, method: Callable[..., Response], request: object, timeout: float | None, route: str | None = None
    ) -> Response:
        seconds, metadata = self._arguments(timeout, route)
        try:
            return method(request, timeout=seconds, metadata=metadata)
        except grpc.RpcError as error:
            raise_from(error, self.target)


class Session:
    """A session on the server. As a context manager it is closed at the end of its block."""

    def __init__(self, client: Client, session_id: str, route: str | None) -> None:
        self._client = client
        #: Its id, which `Client.attach` takes.
        self.id = session_id
        #: What is sent with each of its calls for a proxy to choose a server by; keep it beside the id.
        self.route = route

    def __repr__(self) -> str:
        return f"Session({self.id!r} at {self._client.target})"

    def append(self, token_ids: Iterable[int], *, timeout: float | None = None) -> int:
        """Appends tokens, all or none, and says how long the history is then. Never repeated by itself."""
        request = requests.append(self.id, token_ids)
        return self._client._call(self._client._runtime.AppendTokens, request, timeout, self.route).history_length

    def generate(
        self, max_tokens: int, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> Generation:
        """Begins to generate; the tokens come by iterating over what is returned. Never repeated by itself."""
        request = requests.generate(self.id, max_tokens, options)
        seconds, metadata = self._client._arguments(timeout, self.route)
        return Generation(self._client._runtime.Generate(request, timeout=seconds, metadata=metadata), self._client.target)

    def info(self, *, timeout: float | None = None) -> SessionInfo:
        """How long it is, what its cache uses, and how long it has been idle."""
        request = pb.GetSessionInfoRequest(session_id=self.id)
        return SessionInfo.of(self._client._call(self._client._runtime.GetSessionInfo, request, timeout, self.route))

    def fork(self, count: int = 1, *, timeout: float | None = None) -> list[Session]:
        """Makes sessions that go on from where this one is, with the same bits. All or none."""
        request = session_pb.ForkSessionRequest(session_id=self.id, count=requests.unsigned("count", count, 32))
        forked = self._client._call(self._client._sessions.ForkSession, request, timeout, self.route)
        return [Session(self._client, session_id, self.route) for session_id in forked.session_ids]

    def snapshot(self, *, timeout: float | None = None) -> bytes:
        """Its whole state, for `Client.restore`. It holds the history in plain token ids: keep it as you would that."""
        request = session_pb.SnapshotSessionRequest(session_id=self.id)
        seconds, metadata = self._client._arguments(timeout, self.route)
        stream = self._client._sessions.SnapshotSession(request, timeout=seconds, metadata=metadata)
        try:
            return b"".join(chunk.data for chunk in stream)
        except grpc.RpcError as error:
            raise_from(error, self._client.target)

    def digest(self, *, timeout: float | None = None) -> StateDigest:
        """Digests of its state: sessions with the same tokens have the same, wherever and however they came."""
        request = session_pb.GetStateDigestRequest(session_id=self.id)
        return StateDigest.of(self._client._call(self._client._sessions.GetStateDigest, request, timeout, self.route))

    def close(self, *, timeout: float | None = None) -> int:
        """Ends the session, and says how long its history was."""
        request = pb.CloseSessionRequest(session_id=self.id)
        return self._client._call(self._client._runtime.CloseSession, request, timeout, self.route).final_history_length

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except (NotFoundError, UnavailableError, ClosedClientError):
            # It has ended already, or its server has: what the block is left with is closed either way.
            pass


class _Responses(Protocol):
    """A call whose answers come one by one."""

    def __iter__(self) -> Iterator[pb.GenerateResponse]: ...
    def cancel(self) -> bool: ...


class Generation(Iterator[int]):
    """The tokens of one generation, as they come.

    Leaving it, by `cancel`, by the end of a `with` block or by forgetting it, stops the work within a step. The session
    stays usable, and its history is longer by exactly the tokens that were emitted.
    """

    def __init__(self, call: _Responses, target: str) -> None:
        self._call = call
        self._target = target
        self._cancelled = False
        #: How it ended, once it has.
        self.done: Done | None = None
        #: Tokens of the history that it cannot see, known with the first token.
        self.dropped_token_count = 0
        #: What the model thought of the latest token, where `top_logprobs` was given.
        self.logprobs: TokenLogprobs | None = None
        weakref.finalize(self, call.cancel)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> int:
        try:
            for message in self._call:
                token = self._take(message)
                if token is not None:
                    return token
        except grpc.RpcError as error:
            if not self._cancelled:
                raise_from(error, self._target)
        raise StopIteration

    def cancel(self) -> None:
        """Stops it. Iterating ends, with what had arrived by then. Again, or after the end, does nothing."""
        if self.done is None:
            self._cancelled = True
            self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _take(self, message: pb.GenerateResponse) -> int | None:
        kind = message.WhichOneof("payload")
        if kind == "done":
            self.done = Done.of(message.done)
        elif kind == "truncated":
            self.dropped_token_count = message.truncated.dropped_token_count
        if kind != "token_id":
            return None
        self.logprobs = logprobs_of(message)
        return message.token_id


def logprobs_of(message: pb.GenerateResponse) -> TokenLogprobs | None:
    """What stands beside a token, where it was asked for."""
    if not message.HasField("logprobs"):
        return None
    top = tuple((one.token_id, one.logprob) for one in message.logprobs.top)
    return TokenLogprobs(message.token_id, message.logprobs.logprob, top)

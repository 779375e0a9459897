"""The client for asyncio: `kakeya.client`'s, with `await`, `async with` and `async for`.

Cancelling a task that waits here cancels its call: a generation stops within a step, and its session stays usable.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import TypeVar

import grpc
from typing_extensions import Self, Unpack

from kakeya import _channel as channel
from kakeya import _requests as requests
from kakeya._channel import DEFAULT_TARGET, TLS, Metadata, Settings
from kakeya.client import logprobs_of
from kakeya.errors import ClosedClientError, ForkedClientError, NotFoundError, UnavailableError, raise_from
from kakeya.types import Done, GenerateOptions, SessionInfo, SessionSummary, StateDigest, TokenLogprobs
from kakeya.v1 import runtime_pb2 as pb
from kakeya.v1 import runtime_pb2_grpc as runtime_grpc
from kakeya.v1 import session_pb2 as session_pb
from kakeya.v1 import session_pb2_grpc as session_grpc

Response = TypeVar("Response")


class Client:
    """A connection to `kakeya serve`, for one event loop. Its arguments are those of `kakeya.Client`."""

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
        self._open: _Open | None = None
        self._process = os.getpid()
        self._closed = False

    @property
    def target(self) -> str:
        """The address."""
        return self._settings.target

    async def session(
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
        created = await self._call(self._stubs().runtime.CreateSession, request, timeout, route)
        return Session(self, created.session_id, route)

    def attach(self, session_id: str, *, route: str | None = None) -> Session:
        """A session that is there already, by its id, and by its route where there is a proxy. Asks nothing."""
        route = None if route is None else channel.route(route)
        return Session(self, requests.text("session_id", session_id), route)

    async def sessions(self, *, timeout: float | None = None) -> list[SessionSummary]:
        """The live sessions of this key."""
        request = session_pb.ListSessionsRequest()
        listed = await self._call(self._stubs().sessions.ListSessions, request, timeout)
        return [SessionSummary.of(session) for session in listed.sessions]

    async def restore(
        self, snapshot: bytes | Iterable[bytes], *, route: str | None = None, timeout: float | None = None
    ) -> Session:
        """Opens a session with what `Session.snapshot` gave, of this server or of another with the same settings."""
        # Read to its end first: an error of the iterable is then its own, and nothing has been sent.
        chunks = list(requests.chunks(snapshot))
        route = channel.route(route)
        restored = await self._call(self._stubs().sessions.RestoreSession, chunks, timeout, route)
        return Session(self, restored.session_id, route)

    async def close(self) -> None:
        """Ends the connection, and with it the calls under way. Sessions stay; closing again does nothing."""
        self._closed = True
        if self._open is not None and os.getpid() == self._process:
            await self._open.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _stubs(self) -> _Open:
        """What calls are made with. Made by the first one, since it belongs to the loop that runs by then."""
        if os.getpid() != self._process:
            raise ForkedClientError(
                f"this client was made in process {self._process}, and a connection does not work in process "
                f"{os.getpid()}, which was forked from it"
            )
        if self._closed:
            raise ClosedClientError("this client is closed")
        if self._open is None:
            self._open = _Open(self._settings)
        return self._open

    def _arguments(self, timeout: float | None, route: str | None) -> tuple[float | None, Metadata]:
        timeout = requests.timeout(timeout)
        metadata = channel.routed(self._settings.metadata, route)
        return (self._timeout if timeout is None else timeout), metadata

    async def _call(
        self,
        method: Callable[..., Awaitable[Response]],
        request: object,
        timeout: float | None,
        route: str | None = None,
    ) -> Response:
        seconds, metadata = self._arguments(timeout, route)
        try:
            return await method(request, timeout=seconds, metadata=metadata)
        except grpc.RpcError as error:
            raise_from(error, self.target)


class _Open:
    """A channel, and the stubs on it."""

    def __init__(self, settings: Settings) -> None:
        options = settings.options
        if settings.credentials is None:
            self.channel = grpc.aio.insecure_channel(settings.target, options, settings.compression)
        else:
            self.channel = grpc.aio.secure_channel(
                settings.target, settings.credentials, options, settings.compression
            )
        self.runtime: runtime_grpc.RuntimeServiceAsyncStub = runtime_grpc.RuntimeServiceStub(self.channel)
        self.sessions: session_grpc.SessionServiceAsyncStub = session_grpc.SessionServiceStub(self.channel)


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

    async def append(self, token_ids: Iterable[int], *, timeout: float | None = None) -> int:
        """Appends tokens, all or none, and says how long the history is then. Never repeated by itself."""
        request = requests.append(self.id, token_ids)
        appended = await self._client._call(self._client._stubs().runtime.AppendTokens, request, timeout, self.route)
        return appended.history_length

    def generate(
        self, max_tokens: int, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> Generation:
        """Begins to generate; the tokens come by `async for` over what is returned. Never repeated by itself."""
        request = requests.generate(self.id, max_tokens, options)
        seconds, metadata = self._client._arguments(timeout, self.route)
        call = self._client._stubs().runtime.Generate(request, timeout=seconds, metadata=metadata)
        return Generation(call, self._client.target)

    async def info(self, *, timeout: float | None = None) -> SessionInfo:
        """How long it is, what its cache uses, and how long it has been idle."""
        request = pb.GetSessionInfoRequest(session_id=self.id)
        call = self._client._stubs().runtime.GetSessionInfo
        return SessionInfo.of(await self._client._call(call, request, timeout, self.route))

    async def fork(self, count: int = 1, *, timeout: float | None = None) -> list[Session]:
        """Makes sessions that go on from where this one is, with the same bits. All or none."""
        request = session_pb.ForkSessionRequest(session_id=self.id, count=requests.unsigned("count", count, 32))
        forked = await self._client._call(self._client._stubs().sessions.ForkSession, request, timeout, self.route)
        return [Session(self._client, session_id, self.route) for session_id in forked.session_ids]

    async def snapshot(self, *, timeout: float | None = None) -> bytes:
        """Its whole state, for `Client.restore`. It holds the history in plain token ids: keep it as you would that."""
        request = session_pb.SnapshotSessionRequest(session_id=self.id)
        seconds, metadata = self._client._arguments(timeout, self.route)
        stream = self._client._stubs().sessions.SnapshotSession(request, timeout=seconds, metadata=metadata)
        try:
            return b"".join([chunk.data async for chunk in stream])
        except grpc.RpcError as error:
            raise_from(error, self._client.target)

    async def digest(self, *, timeout: float | None = None) -> StateDigest:
        """Digests of its state: sessions with the same tokens have the same, wherever and however they came."""
        request = session_pb.GetStateDigestRequest(session_id=self.id)
        call = self._client._stubs().sessions.GetStateDigest
        return StateDigest.of(await self._client._call(call, request, timeout, self.route))

    async def close(self, *, timeout: float | None = None) -> int:
        """Ends the session, and says how long its history was."""
        request = pb.CloseSessionRequest(session_id=self.id)
        closed = await self._client._call(self._client._stubs().runtime.CloseSession, request, timeout, self.route)
        return closed.final_history_length

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except (NotFoundError, UnavailableError, ClosedClientError):
            # It has ended already, or its server has: what the block is left with is closed either way.
            pass


class Generation(AsyncIterator[int]):
    """The tokens of one generation, as they come.

    Leaving it, by `cancel`, by the end of an `async with` block, by the task's cancellation or by forgetting it, stops the
    work within a step. The session stays usable, and its history is longer by exactly the tokens that were emitted.
    """

    def __init__(
        self, call: grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateResponse], target: str
    ) -> None:
        self._call = call
        self._messages = call.__aiter__()
        self._target = target
        self._cancelled = False
        #: How it ended, once it has.
        self.done: Done | None = None
        #: Tokens of the history that it cannot see, known with the first token.
        self.dropped_token_count = 0
        #: What the model thought of the latest token, where `top_logprobs` was given.
        self.logprobs: TokenLogprobs | None = None
        weakref.finalize(self, call.cancel)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        if self._cancelled:
            raise StopAsyncIteration
        try:
            async for message in self._messages:
                kind = message.WhichOneof("payload")
                if kind == "done":
                    self.done = Done.of(message.done)
                elif kind == "truncated":
                    self.dropped_token_count = message.truncated.dropped_token_count
                else:
                    self.logprobs = logprobs_of(message)
                    return message.token_id
        except grpc.RpcError as error:
            if not self._cancelled:
                raise_from(error, self._target)
        raise StopAsyncIteration

    def cancel(self) -> None:
        """Stops it, and iterating ends. Again, or after the end, does nothing."""
        if self.done is None:
            self._cancelled = True
            self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

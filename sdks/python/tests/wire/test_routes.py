"""What a proxy in front of several servers sees: the same `kakeya-route` with every call of a session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from kakeya import Client, aio
from kakeya.errors import InvalidInputError, KakeyaError
from kakeya.v1 import runtime_pb2 as pb
from kakeya.v1 import session_pb2 as session_pb

ID = "sess-00000000000000000000000000000007"
CREATED = pb.CreateSessionResponse(session_id=ID).SerializeToString()
RESTORED = session_pb.RestoreSessionResponse(session_id=ID, history_length=1).SerializeToString()


class Proxy(grpc.GenericRpcHandler):
    """Notes each call's name and route. It opens sessions, and does nothing else."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str | None]] = []

    def service(self, details: Any) -> grpc.RpcMethodHandler[Any, Any]:
        name = details.method.rsplit("/", 1)[1]
        routes = [value for key, value in details.invocation_metadata if key == "kakeya-route"]
        assert len(routes) <= 1
        self.calls.append((name, routes[0] if routes else None))
        if name == "RestoreSession":
            return grpc.stream_unary_rpc_method_handler(lambda chunks, _: RESTORED)
        if name == "CreateSession":
            return grpc.unary_unary_rpc_method_handler(lambda request, _: CREATED)
        if name in ("Generate", "SnapshotSession"):
            return grpc.unary_stream_rpc_method_handler(lambda request, _: iter(()))
        return grpc.unary_unary_rpc_method_handler(lambda request, context: context.abort(grpc.StatusCode.INTERNAL, "no"))


@pytest.fixture
def proxy() -> Iterator[tuple[Proxy, str]]:
    handler = Proxy()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, f"127.0.0.1:{port}"
    server.stop(None)


ALL = ["CreateSession", "AppendTokens", "GetSessionInfo", "ForkSession", "GetStateDigest", "Generate", "SnapshotSession", "CloseSession"]


def test_every_call_of_a_session_has_its_route(proxy: tuple[Proxy, str]) -> None:
    handler, target = proxy
    with Client(target) as client:
        session = client.session(route="user-7")
        for call in (lambda: session.append([1]), session.info, session.fork, session.digest):
            with pytest.raises(KakeyaError):
                call()
        list(session.generate(1))
        session.snapshot()
        with pytest.raises(KakeyaError):
            session.close()
        assert session.route == "user-7"
        assert handler.calls == [(name, "user-7") for name in ALL]
        handler.calls.clear()
        restored = client.restore(b"bytes", route="user-8")
        assert (restored.route, handler.calls) == ("user-8", [("RestoreSession", "user-8")])


def test_the_same_for_asyncio(proxy: tuple[Proxy, str]) -> None:
    handler, target = proxy

    async def run() -> None:
        async with aio.Client(target) as client:
            session = await client.session(route="user-7")
            for call in (lambda: session.append([1]), session.info, session.fork, session.digest):
                with pytest.raises(KakeyaError):
                    await call()
            assert [token async for token in session.generate(1)] == []
            await session.snapshot()
            with pytest.raises(KakeyaError):
                await session.close()
            assert handler.calls == [(name, "user-7") for name in ALL]
            handler.calls.clear()
            await client.restore(b"bytes")
            [(_, route)] = handler.calls
            assert route is not None and len(route) == 32

    asyncio.run(run())


def test_each_session_has_a_route_of_its_own_and_one_that_is_attached_has_the_one_given(proxy: tuple[Proxy, str]) -> None:
    handler, target = proxy
    with Client(target) as client:
        one, two = client.session(), client.session()
        assert one.route != two.route
        assert [route for _, route in handler.calls] == [one.route, two.route]
        handler.calls.clear()
        for attached in (client.attach(ID), client.attach(ID, route=one.route)):
            with pytest.raises(KakeyaError):
                attached.info()
        assert handler.calls == [("GetSessionInfo", None), ("GetSessionInfo", one.route)]


@pytest.mark.parametrize("route", ["", " ", "a b", "caf\u00e9", "line\n", "x" * 257, 7])
def test_routes_are_what_a_header_can_hold(route: Any) -> None:
    with Client("127.0.0.1:1") as client:
        for call in (client.session, lambda route: client.attach(ID, route=route), lambda route: client.restore(b"", route=route)):
            with pytest.raises(InvalidInputError, match="must be 1 to 256 printable ASCII characters"):
                call(route=route)

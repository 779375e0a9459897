"""Each status has a type of its own, and only what changes nothing is repeated.

The server here is gRPC's own, and answers every call with a status.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from kakeya import Client, KakeyaError, Session
from kakeya import errors


class Refusing(grpc.GenericRpcHandler):
    """Ends every call with one status, and counts calls by their names."""

    def __init__(self) -> None:
        self.status = grpc.StatusCode.UNAVAILABLE
        self.calls: Counter[str] = Counter()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        name = details.method.rpartition("/")[2]

        def end(request: object, context: grpc.ServicerContext) -> bytes:
            self.calls[name] += 1
            context.abort(self.status, "said by a test")

        streams = {"Generate": (False, True), "SnapshotSession": (False, True), "RestoreSession": (True, False)}
        kind = streams.get(name, (False, False))
        if kind == (False, True):
            return grpc.unary_stream_rpc_method_handler(lambda request, context: iter([end(request, context)]))
        if kind == (True, False):
            return grpc.stream_unary_rpc_method_handler(end)
        return grpc.unary_unary_rpc_method_handler(end)


@pytest.fixture
def refusing() -> Refusing:
    return Refusing()


@pytest.fixture
def client(refusing: Refusing) -> Iterator[Client]:
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((refusing,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Client(f"127.0.0.1:{port}", timeout=20) as client:
        yield client
    server.stop(0)


@pytest.fixture
def session(client: Client) -> Session:
    return client.attach("sess-00000000000000000000000000000007")


EXPECTED = {
    grpc.StatusCode.CANCELLED: errors.CallCancelledError,
    grpc.StatusCode.UNKNOWN: errors.UnknownError,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgumentError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExistsError,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhaustedError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPreconditionError,
    grpc.StatusCode.ABORTED: errors.AbortedError,
    grpc.StatusCode.OUT_OF_RANGE: errors.MessageTooLargeError,
    grpc.StatusCode.UNIMPLEMENTED: errors.UnimplementedError,
    grpc.StatusCode.INTERNAL: errors.InternalError,
    grpc.StatusCode.UNAVAILABLE: errors.ConnectionLostError,
    grpc.StatusCode.DATA_LOSS: errors.DataLossError,
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
}


def test_every_status_has_a_type_of_its_own(refusing: Refusing, session: Session) -> None:
    assert set(EXPECTED) == set(grpc.StatusCode) - {grpc.StatusCode.OK}
    assert len(set(EXPECTED.values())) == len(EXPECTED)
    for status, kind in EXPECTED.items():
        refusing.status = status
        for call in (lambda: session.append([1]), lambda: list(session.generate(1))):
            with pytest.raises(KakeyaError, match="said by a test") as raised:
                call()
            assert type(raised.value) is kind
            assert raised.value.status is status


def test_only_what_changes_nothing_is_repeated(refusing: Refusing, client: Client, session: Session) -> None:
    for call in (
        client.session,
        lambda: session.append([1]),
        lambda: list(session.generate(1)),
        session.fork,
        session.snapshot,
        lambda: client.restore(b"abc"),
        session.close,
        session.info,
        session.digest,
        client.sessions,
    ):
        with pytest.raises(errors.UnavailableError):
            call()
    assert refusing.calls == {
        "CreateSession": 1,
        "AppendTokens": 1,
        "Generate": 1,
        "ForkSession": 1,
        "SnapshotSession": 1,
        "RestoreSession": 1,
        "CloseSession": 1,
        "GetSessionInfo": 4,
        "GetStateDigest": 4,
        "ListSessions": 4,
    }


def test_a_snapshot_is_bytes(client: Client) -> None:
    with pytest.raises(errors.InvalidInputError, match="a piece of the snapshot is 'abc', and must be bytes"):
        client.restore(["abc"])  # type: ignore[list-item]

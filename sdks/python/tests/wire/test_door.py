"""What comes before a model: who answers, who is let in, and for how long anybody waits."""

from __future__ import annotations

import asyncio
import http.server
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

import kakeya.aio
from kakeya import TLS, Client
from kakeya.errors import (
    DeadlineExceededError,
    ForkedClientError,
    InvalidInputError,
    ServerStoppingError,
    ServerUnreachableError,
    UnauthenticatedError,
)

SESSION = "sess-00000000000000000000000000000007"


@pytest.fixture
def web_server() -> Iterator[str]:
    """Something that speaks HTTP/1.1, as the port of `--http` does."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    said = f"no server listens at {address} .* - start one with `kakeya serve --bind {address}`"
    with Client(address) as client, pytest.raises(ServerUnreachableError, match=said):
        client.session()
    # A call that may be repeated is, and comes to the same end.
    with Client(address) as client, pytest.raises(ServerUnreachableError, match="no server listens"):
        client.sessions()


def test_a_machine_that_is_not_there_is_named() -> None:
    said = "nowhere.invalid:50051 names no machine"
    with Client("nowhere.invalid:50051", timeout=20) as client, pytest.raises(ServerUnreachableError, match=said):
        client.session()


def test_the_wrong_port_is_told_with_the_right_one(web_server: str) -> None:
    said = "does not speak plain gRPC .* - give the port after `listening on`, not that after `http listening on`"
    with Client(web_server) as client, pytest.raises(ServerUnreachableError, match=said):
        client.session()


def test_tls_on_one_side_alone_is_told(closed_door: str, tls_door: str) -> None:
    with Client(closed_door, tls=True) as client, pytest.raises(ServerUnreachableError, match="does not speak TLS"):
        client.session()
    with Client(tls_door) as client, pytest.raises(ServerUnreachableError, match=r"Client\(tls=True\)"):
        client.session()
    said = r"is not trusted here .* - give Client\(tls=TLS"
    with Client(tls_door, tls=True) as client, pytest.raises(ServerUnreachableError, match=said):
        client.session()


def test_tls_comes_through_by_its_root(tls_door: str, root: str) -> None:
    port = tls_door.rpartition(":")[2]
    with Client(f"localhost:{port}", tls=TLS(root_certificates=root)) as client:
        with pytest.raises(ServerStoppingError):
            client.session()


def test_certificates_that_are_not_there_are_named() -> None:
    with pytest.raises(InvalidInputError, match="root_certificates cannot be read from /nowhere.pem: No such file"):
        Client(tls=TLS(root_certificates="/nowhere.pem"))
    with pytest.raises(InvalidInputError, match="needs both or neither"):
        Client(tls=TLS(certificate=b"-"))


def test_a_key_is_asked_for_and_let_in(locked_door: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (None, "k-wrong"):
        with Client(locked_door, key=wrong) as client:
            with pytest.raises(UnauthenticatedError, match=r"give Client\(key=...\) or set KAKEYA_API_KEY"):
                client.session()
    with Client(locked_door, key=key) as client, pytest.raises(ServerStoppingError):
        client.session()
    monkeypatch.setenv("KAKEYA_API_KEY", key)
    with Client(locked_door) as client, pytest.raises(ServerStoppingError):
        client.session()


def test_a_server_that_stops_says_what_becomes_of_sessions(closed_door: str) -> None:
    with Client(closed_door, compress=True) as client:
        session = client.attach(SESSION)
        for call in (client.session, session.info, lambda: session.append([1]), lambda: list(session.generate(1))):
            with pytest.raises(ServerStoppingError, match="takes no work: the engine .* `--state-dir` keeps sessions"):
                call()


def test_a_block_ends_without_an_error_of_its_own_where_the_server_is_gone(closed_door: str) -> None:
    with Client(closed_door) as client, pytest.raises(KeyError, match="mine"), client.attach(SESSION):
        raise KeyError("mine")


def test_a_deadline_of_nothing_has_passed(silent_door: str) -> None:
    with Client(silent_door) as client:
        for call in (
            lambda: client.session(timeout=0),
            lambda: client.attach(SESSION).append([1], timeout=0),
            lambda: list(client.attach(SESSION).generate(1, timeout=0)),
        ):
            with pytest.raises(DeadlineExceededError, match="give a larger `timeout=`, or none"):
                call()


def test_a_deadline_ends_a_wait(silent_door: str) -> None:
    with Client(silent_door, timeout=0.2) as client:
        with pytest.raises(DeadlineExceededError):
            client.session()
        with pytest.raises(DeadlineExceededError):
            list(client.attach(SESSION).generate(1))
        # One of the call's own outdoes the client's.
        start = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            client.session(timeout=0.5)
        assert time.monotonic() - start > 0.4


def test_a_stream_can_be_left_before_anything_has_come(silent_door: str) -> None:
    with Client(silent_door) as client:
        generation = client.attach(SESSION).generate(1)
        generation.cancel()
        generation.cancel()
        assert (list(generation), generation.done) == ([], None)
        with client.attach(SESSION).generate(1) as other:
            pass
        assert list(other) == []


def test_closing_the_client_ends_a_call_of_another_thread(silent_door: str) -> None:
    client = Client(silent_door)
    ended: list[object] = []
    generation = client.attach(SESSION).generate(1)

    def read() -> None:
        try:
            ended.append(list(generation))
        except kakeya.KakeyaError as error:
            ended.append(type(error).__name__)

    thread = threading.Thread(target=read)
    thread.start()
    client.close()
    thread.join(20)
    assert ended == ["CallCancelledError"]


def _used_after_the_fork(client: Client, door: str, found: multiprocessing.SimpleQueue[list[str]]) -> None:
    said = []
    for asked in (client, Client(door, timeout=20)):
        try:
            asked.session()
        except kakeya.KakeyaError as error:
            said.append(f"{type(error).__name__}: {error}")
    found.put(said)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_client_does_not_survive_a_fork_and_says_so(closed_door: str) -> None:
    with Client(closed_door) as client:
        with pytest.raises(ServerStoppingError):
            client.session()
        context = multiprocessing.get_context("fork")
        found: multiprocessing.SimpleQueue[list[str]] = context.SimpleQueue()
        child = context.Process(target=_used_after_the_fork, args=(client, closed_door, found))
        child.start()
        child.join(60)
        if child.is_alive():
            child.kill()
            pytest.fail("the child hangs")
        of_old, of_new = found.get()
        assert of_old.startswith(f"{ForkedClientError.__name__}: this client was made in process {os.getpid()}")
        assert of_old.endswith("make the Client in the process that uses it")
        assert of_new.startswith(ServerStoppingError.__name__)
        # And the parent's goes on.
        with pytest.raises(ServerStoppingError):
            client.session()


def test_asyncio_has_the_same_errors(closed_door: str, locked_door: str, silent_door: str) -> None:
    async def check() -> None:
        async with kakeya.aio.Client(closed_door) as client:
            with pytest.raises(ServerStoppingError):
                await client.session()
            with pytest.raises(ServerStoppingError):
                [token async for token in client.attach(SESSION).generate(1)]
            with pytest.raises(InvalidInputError, match=r"token_ids\[0\] is -1"):
                await client.attach(SESSION).append([-1])
            with pytest.raises(KeyError):
                async with client.attach(SESSION):
                    raise KeyError
        with pytest.raises(kakeya.errors.ClosedClientError):
            await client.session()
        async with kakeya.aio.Client(locked_door) as client:
            with pytest.raises(UnauthenticatedError):
                await client.session()
        async with kakeya.aio.Client(silent_door) as client:
            with pytest.raises(DeadlineExceededError):
                await client.session(timeout=0)
            with pytest.raises(DeadlineExceededError):
                [token async for token in client.attach(SESSION).generate(1, timeout=0.2)]

    asyncio.run(check())


def test_an_asyncio_task_that_is_cancelled_ends_its_call(silent_door: str) -> None:
    async def check() -> None:
        async with kakeya.aio.Client(silent_door) as client:

            async def read() -> list[int]:
                return [token async for token in client.attach(SESSION).generate(1)]

            for waiting in (client.session(), read()):
                task = asyncio.ensure_future(waiting)
                await asyncio.sleep(0.1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            with pytest.raises(TimeoutError if sys.version_info >= (3, 11) else asyncio.TimeoutError):
                await asyncio.wait_for(client.session(), 0.1)

    asyncio.run(check())

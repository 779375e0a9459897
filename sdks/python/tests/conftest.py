"""Servers that the tests speak to. Suite `sdk` of the gates starts them, and says where they are in the environment:

cargo test -p kakeya-gates --test suites -- sdk::python
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from kakeya import Client
from kakeya.tokenization import ServerTokenizer


def _given(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        pytest.fail(f"{name} is not set: run these tests with `cargo test -p kakeya-gates --test suites -- sdk::python`")
    return value


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAKEYA_API_KEY", raising=False)


@pytest.fixture
def closed_door() -> str:
    """A server whose engine has stopped: nothing gets to a model."""
    return _given("KAKEYA_TEST_CLOSED")


@pytest.fixture
def silent_door() -> str:
    """A server that never answers."""
    return _given("KAKEYA_TEST_SILENT")


@pytest.fixture
def locked_door() -> str:
    """As `closed_door`, with keys."""
    return _given("KAKEYA_TEST_LOCKED")


@pytest.fixture
def key() -> str:
    """The key of `locked_door`."""
    return _given("KAKEYA_TEST_KEY")


@pytest.fixture
def tls_door() -> str:
    """As `closed_door`, with a certificate for localhost."""
    return _given("KAKEYA_TEST_TLS")


@pytest.fixture
def root() -> str:
    """The certificate of `tls_door`, a PEM file."""
    return _given("KAKEYA_TEST_ROOT")


@pytest.fixture
def address() -> str:
    """A server with the real model, of 4 sessions and a history of at most 3000 tokens."""
    return _given("KAKEYA_TEST_SERVER")


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, timeout=100) as client:
        yield client


@pytest.fixture
def tokenizer() -> ServerTokenizer:
    """The real model's own."""
    return ServerTokenizer(_given("KAKEYA_TEST_HTTP"))


@pytest.fixture
def restart() -> Callable[[], None]:
    """Cuts the real server off and starts another one at its address."""
    host, _, port = _given("KAKEYA_TEST_CONTROL").rpartition(":")

    def restart() -> None:
        with socket.create_connection((host, int(port)), timeout=100) as control:
            control.sendall(b"restart\n")
            assert control.recv(16) == b"done\n"

    return restart

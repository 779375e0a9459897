"""What is refused before anything is sent. The door would answer UNAVAILABLE to whatever came through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kakeya import Client, Session
from kakeya.errors import ClosedClientError, InvalidInputError, MessageTooLargeError


@pytest.fixture
def session(closed_door: str) -> Iterator[Session]:
    with Client(closed_door) as client:
        yield client.attach("sess-00000000000000000000000000000007")


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([1, -1], r"token_ids\[1\] is -1, and must be from 0 to 4294967295"),
        ([1 << 32], r"token_ids\[0\] is 4294967296"),
        ([10**80], r"token_ids\[0\] is 1000+\.\.\., and must be from 0"),
        ([1.0], r"token_ids\[0\] is 1.0, and must be a whole number"),
        (["1"], r"token_ids\[0\] is '1', and must be a whole number"),
        ([True], r"token_ids\[0\] is True"),
        ([None], r"token_ids\[0\] is None"),
        ("hello", r"token_ids is 'hello', and must be token ids - kakeya.tokenization makes"),
        (b"hello", r"token_ids is b'hello'"),
        (7, r"token_ids is 7, and must be an iterable"),
    ],
)
def test_what_is_no_token_is_named_with_its_place(session: Session, ids: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        session.append(ids)


def test_an_iterator_that_raises_half_way_raises_its_own_error_and_sends_nothing(session: Session) -> None:
    def ids() -> Iterator[int]:
        yield 1
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        session.append(ids())


def test_an_iterator_without_end_is_not_read_for_ever(session: Session) -> None:
    def ids() -> Iterator[int]:
        while True:
            yield 1

    with pytest.raises(MessageTooLargeError, match="4 MiB - append in pieces"):
        session.append(ids())


def test_a_message_of_more_than_four_mebibytes_is_not_sent(session: Session) -> None:
    with pytest.raises(MessageTooLargeError, match=r"1500000 tokens take \d+ bytes"):
        session.append([40_000] * 1_500_000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_tokens": -1}, "max_tokens is -1"),
        ({"max_tokens": 1.5}, "max_tokens is 1.5"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1 << 64}, "seed is 18446744073709551616"),
        ({"temperature": "hot"}, "temperature is 'hot', and must be a number"),
        ({"temperature": float("nan")}, "temperature is nan, and must be finite"),
        ({"logit_bias": {-1: 0.0}}, "a token of logit_bias is -1"),
        ({"stop_sequences": [[1], ["a"]]}, r"stop_sequences\[1\]\[0\] is 'a'"),
        ({"temprature": 1.0}, "'temprature' is no option: there are frequency_penalty"),
        ({"timeout": -1}, "timeout is -1, and must be 0 or more"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"timeout": "1"}, "timeout is '1'"),
    ],
)
def test_options_are_named(session: Session, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        session.generate(**{"max_tokens": 1, **options})


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://127.0.0.1:50051", "without a scheme"),
        ("127.0.0.1", "must be host:port - such as 127.0.0.1:50051"),
        ("127.0.0.1:", "must be host:port"),
        (":50051", "must be host:port"),
        ("127.0.0.1:port", "must be host:port"),
        ("127.0.0.1:70000", "must be host:port"),
        ("127.0.0.1:50051\n", "must be host:port"),
        (50051, "the address is 50051"),
    ],
)
def test_addresses_are_host_and_port(target: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        Client(target)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("k-1\n", r"the key has a line end at index 3 - a key read from a file wants .strip\(\)"),
        ("", "the key is empty"),
        ("k 1", "a blank at index 1"),
        ("kéy", "no ASCII at index 1"),
        (b"k-1", "of type bytes"),
    ],
)
def test_keys_are_what_a_header_can_hold_and_are_not_repeated(key: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as refused:
        Client(key=key)
    assert "k-1" not in str(refused.value)


def test_a_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAKEYA_API_KEY", "k-1\n")
    with pytest.raises(InvalidInputError, match="line end"):
        Client()


def test_a_label_that_utf8_cannot_write_is_refused(closed_door: str) -> None:
    with Client(closed_door) as client, pytest.raises(InvalidInputError, match="surrogates"):
        client.session(label="\udc80")


def test_a_closed_client_says_so_and_closes_again(closed_door: str) -> None:
    client = Client(closed_door)
    client.close()
    client.close()
    with pytest.raises(ClosedClientError, match="this client is closed - make a new Client"):
        client.session()

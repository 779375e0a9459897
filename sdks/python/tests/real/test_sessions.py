"""Sessions of the real model."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from kakeya import Client, Session, StopReason
from kakeya.errors import (
    ConnectionLostError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    HistoryTooLongError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from kakeya.tokenization import ServerTokenizer

#: As many as the server's limit on a history leaves: no test reads them to their end.
WITHOUT_END = 2500


@pytest.fixture
def prompt(tokenizer: ServerTokenizer) -> list[int]:
    return tokenizer.encode("The three primary colours are red, yellow and blue, since")


def generated(session: Session, count: int) -> list[int]:
    """Tokens of a draw so hot that two streams that differ in anything differ in them."""
    generation = session.generate(count, temperature=1.5, seed=7)
    tokens = list(generation)
    assert generation.done is not None and generation.done.generated_token_count == len(tokens) == count
    return tokens


def test_appending_in_pieces_is_the_same_session(client: Client, prompt: list[int]) -> None:
    with client.session() as whole, client.session(label="pieces") as pieces:
        assert whole.append(prompt) == len(prompt)
        for token in prompt:
            pieces.append(iter([token]))
        assert pieces.append([]) == len(prompt)
        assert whole.digest() == pieces.digest()
        assert generated(whole, 12) == generated(pieces, 12)
        assert whole.digest().state_sha256 == pieces.digest().state_sha256
        assert {one.session_id: one.client_label for one in client.sessions()} == {whole.id: "", pieces.id: "pieces"}
    assert client.sessions() == []


def test_what_a_generation_tells(client: Client, prompt: list[int]) -> None:
    with client.session() as session:
        session.append(prompt)
        generation = session.generate(3, top_logprobs=2)
        for token in generation:
            assert generation.logprobs is not None and generation.logprobs.token_id == token
            # Greedy: the likeliest is taken.
            assert generation.logprobs.top[0] == (token, generation.logprobs.logprob)
            assert len(generation.logprobs.top) == 2
        assert generation.done is not None and generation.done.stop_reason is StopReason.MAX_TOKENS
        assert 0 < generation.done.prefill_duration_seconds <= generation.done.total_duration_seconds
        info = session.info()
        assert info.history_length == len(prompt) + 3
        assert info.kv_live_bytes > 0 and info.inv1_violations == info.inv2_violations == 0
        assert generation.dropped_token_count == 0
        assert session.close() == len(prompt) + 3
        with pytest.raises(NotFoundError, match="open a new one with client.session"):
            session.info()


def test_a_generation_says_how_much_it_cannot_see(client: Client, prompt: list[int]) -> None:
    with client.session() as session:
        length = session.append(prompt * 30)
        generation = session.generate(1)
        assert len(list(generation)) == 1
        assert 0 < generation.dropped_token_count < length


def test_generations_stop_where_they_are_asked_to(client: Client, prompt: list[int]) -> None:
    with client.session() as session:
        session.append(prompt)
        first, second, *_ = generated(session.fork()[0], 4)
        stopped = session.generate(50, temperature=1.5, seed=7, stop_sequences=[[first, second]])
        assert list(stopped) == [first, second]
        assert stopped.done is not None and stopped.done.stop_reason is StopReason.STOP_SEQUENCE
    with client.session(eos_token_ids=[first]) as session:
        session.append(prompt)
        ended = session.generate(50, temperature=1.5, seed=7)
        assert list(ended) == [first]
        assert ended.done is not None and ended.done.stop_reason is StopReason.EOS
        forced = session.generate(2, logit_bias={42: 100.0})
        assert list(forced) == [42, 42]
    for left in client.sessions():
        client.attach(left.session_id).close()


def _settled(session: Session) -> int:
    """The history's length once the generation has stopped, which it does within a step."""
    start = time.monotonic()
    while time.monotonic() - start < 60:
        busy = [one.busy for one in session._client.sessions() if one.session_id == session.id]
        if busy == [False]:
            return session.info().history_length
        time.sleep(0.01)
    pytest.fail("the session is still at work")


@pytest.mark.parametrize("left", ["cancelled", "with", "broken", "forgotten"])
def test_leaving_a_stream_stops_it_and_keeps_the_session(client: Client, prompt: list[int], left: str) -> None:
    with client.session() as session:
        session.append(prompt)
        expected = generated(session.fork()[0], 150)
        generation = session.generate(WITHOUT_END, temperature=1.5, seed=7)
        seen = [next(generation), next(generation)]
        if left == "cancelled":
            generation.cancel()
            seen += list(generation)
            assert generation.done is None
        elif left == "with":
            with generation:
                seen.append(next(generation))
        elif left == "broken":
            for token in generation:
                seen.append(token)
                break
            del generation
        else:
            del generation
        emitted = _settled(session) - len(prompt)
        assert len(seen) <= emitted < 150
        assert seen == expected[: len(seen)]
        # It goes on from exactly what was emitted.
        assert generated(session, 2) == expected[emitted : emitted + 2]
    for left_over in client.sessions():
        client.attach(left_over.session_id).close()


def test_a_deadline_leaves_what_was_emitted(client: Client, prompt: list[int]) -> None:
    with client.session() as session:
        session.append(prompt)
        seen = []
        with pytest.raises(DeadlineExceededError, match="session.info"):
            for token in session.generate(WITHOUT_END, timeout=0.5):
                seen.append(token)
        assert len(prompt) + len(seen) <= _settled(session)
        assert len(list(session.generate(2))) == 2


def test_copies_go_on_with_the_same_bits(client: Client, prompt: list[int]) -> None:
    with client.session() as session:
        session.append(prompt)
        snapshot = session.snapshot()
        state = session.digest()
        with session.fork(1)[0] as fork, client.restore(snapshot) as restored, client.restore([snapshot]) as other:
            assert fork.digest() == restored.digest() == other.digest() == state
            expected = generated(session, 12)
            assert expected == generated(fork, 12) == generated(restored, 12)
        damaged = snapshot[:-40] + bytes([snapshot[-40] ^ 1]) + snapshot[-39:]
        with pytest.raises((DataLossError, InvalidArgumentError)):
            client.restore(damaged)
        with pytest.raises(InvalidArgumentError):
            client.restore(b"no snapshot")


def test_bad_values_are_named_and_change_nothing(client: Client, prompt: list[int]) -> None:
    with client.session() as session:
        with pytest.raises(InvalidArgumentError, match="is empty: append at least one token"):
            list(session.generate(1))
        session.append(prompt)
        with pytest.raises(InvalidArgumentError, match="token 4294967295 at index 1 is outside the vocabulary"):
            session.append([1, 4294967295])
        for options, said in (
            ({"max_tokens": 0}, "max_tokens is 0"),
            ({"max_tokens": 1, "temperature": 1000.0}, "temperature is 1000"),
            ({"max_tokens": 1, "top_p": 2.0}, "top_p is 2"),
            ({"max_tokens": 1, "top_logprobs": 21}, "top_logprobs is 21"),
        ):
            with pytest.raises(InvalidArgumentError, match=said):
                list(session.generate(**options))
        with pytest.raises(InvalidArgumentError, match="count is 0"):
            session.fork(0)
        assert session.info().history_length == len(prompt)


def test_a_history_that_is_too_long_says_what_to_do(client: Client) -> None:
    with client.session() as session:
        session.append([1] * 10)
        with pytest.raises(HistoryTooLongError, match="10 tokens of history and 2991 more .* begin a new session"):
            session.append([1] * 2991)
        assert session.info().history_length == 10


def test_ids_of_elsewhere_are_not_found(client: Client) -> None:
    for elsewhere in ("sess-00000000000000000000000000000007", "sess-", "", "ключ", "a" * 10_000):
        with pytest.raises(NotFoundError, match="each belongs to one server and one key"):
            client.attach(elsewhere).append([1])
        with pytest.raises(NotFoundError):
            client.attach(elsewhere).snapshot()


def test_an_evicted_session_says_so(client: Client) -> None:
    first = client.session()
    others = [client.session() for _ in range(4)]
    with pytest.raises(NotFoundError, match=r"evicted for a newer one \(`--capacity`\)"):
        first.append([1])
    for other in others:
        other.close()


def test_a_server_that_restarts_in_mid_stream(
    client: Client, prompt: list[int], restart: Callable[[], None]
) -> None:
    session = client.session()
    session.append(prompt)
    generation = session.generate(WITHOUT_END)
    next(generation)
    restart()
    with pytest.raises((ConnectionLostError, DeadlineExceededError)) as cut:
        list(generation)
    assert isinstance(cut.value, (ConnectionLostError, DeadlineExceededError))
    # The client connects anew by itself; the session went with its server.
    start = time.monotonic()
    while True:
        try:
            session.info()
        except NotFoundError as gone:
            assert "`--state-dir` keeps them" in str(gone)
            break
        except UnavailableError:
            assert time.monotonic() - start < 60
    with client.session() as fresh:
        assert fresh.append(prompt) == len(prompt)

"""The asyncio client with the real model."""

from __future__ import annotations

import asyncio

import pytest

from kakeya import aio
from kakeya.errors import NotFoundError
from kakeya.tokenization import ServerTokenizer

#: As many as the server's limit on a history leaves: no test reads them to their end.
WITHOUT_END = 2500


async def collect(session: aio.Session, count: int) -> list[int]:
    generation = session.generate(count, temperature=1.5, seed=7)
    tokens = [token async for token in generation]
    assert generation.done is not None and generation.done.generated_token_count == len(tokens) == count
    return tokens


def test_sessions_run_beside_each_other(address: str, tokenizer: ServerTokenizer) -> None:
    prompt = tokenizer.encode("The three primary colours are")

    async def check() -> None:
        async with aio.Client(address, timeout=100) as client, await client.session() as session:
            assert await session.append(prompt) == len(prompt)
            (fork,) = await session.fork()
            restored = await client.restore(await session.snapshot())
            assert await fork.digest() == await restored.digest() == await session.digest()
            streams = await asyncio.gather(*(collect(one, 12) for one in (session, fork, restored)))
            assert streams[0] == streams[1] == streams[2]
            assert {one.session_id for one in await client.sessions()} == {session.id, fork.id, restored.id}
            assert await fork.close() == await restored.close() == len(prompt) + 12
            with pytest.raises(NotFoundError):
                await fork.info()

    asyncio.run(check())


@pytest.mark.parametrize("left", ["task", "cancel", "block", "forgotten"])
def test_a_cancelled_stream_stops_and_keeps_the_session(
    address: str, tokenizer: ServerTokenizer, left: str
) -> None:
    prompt = tokenizer.encode("The three primary colours are")

    async def check() -> None:
        async with aio.Client(address, timeout=100) as client, await client.session() as session:
            await session.append(prompt)
            seen: list[int] = []
            some = asyncio.Event()

            async def read() -> None:
                async for token in session.generate(WITHOUT_END):
                    seen.append(token)
                    if len(seen) == 3:
                        some.set()

            if left == "task":
                task = asyncio.ensure_future(read())
                await asyncio.wait_for(some.wait(), 60)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                generation = session.generate(WITHOUT_END)
                seen.append(await anext_of(generation))
                if left == "cancel":
                    generation.cancel()
                    assert [token async for token in generation] == []
                elif left == "block":
                    async with generation:
                        seen.append(await anext_of(generation))
                del generation
            # The next call on the session waits for the end of the first.
            assert len(await collect(session, 2)) == 2
            length = (await session.info()).history_length
            assert length >= len(prompt) + len(seen) + 2

    asyncio.run(asyncio.wait_for(check(), 90))


async def anext_of(generation: aio.Generation) -> int:
    return await generation.__anext__()

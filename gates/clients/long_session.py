"""The client's end of a long session, through the Python SDK.

Standard input has one line of JSON with the server's `address`, the `words` to say, as token ids, and how many `tokens` a
turn appends and then generates; after that a line for each turn that is to be taken. Each is answered with a line of JSON,
the first with what drives the session.
"""

import json
import sys
import time

import kakeya

# Beyond that many seconds the server is not slow but gone.
PATIENCE = 120


def turn(session: kakeya.Session, words: list[int], tokens: int) -> dict[str, float]:
    start = time.monotonic()
    session.append(words)
    generation = session.generate(tokens)
    generated = sum(1 for _ in generation)
    seconds = time.monotonic() - start
    if generation.done is None or generated != tokens:
        sys.exit(f"a generation of {tokens} tokens gave {generated}, and {'ended' if generation.done else 'no end'}")
    info = session.info()
    return {
        "seconds": seconds,
        "tokens": generated,
        "history_length": info.history_length,
        "kv_bytes": info.kv_live_bytes,
        "inv1": info.inv1_violations,
        "inv2": info.inv2_violations,
    }


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    words, tokens = asked["words"], asked["tokens"]
    with kakeya.Client(asked["address"], timeout=PATIENCE) as client:
        # Without an end token: each turn generates as many tokens as it asks for.
        session = client.session(label="long session")
        print(json.dumps({"name": "kakeya-python", "version": kakeya.__version__}), flush=True)
        for said, _ in enumerate(sys.stdin):
            at = said * tokens % (len(words) - tokens)
            print(json.dumps(turn(session, words[at : at + tokens], tokens)), flush=True)


if __name__ == "__main__":
    try:
        main()
    except kakeya.KakeyaError as error:
        sys.exit(f"{type(error).__name__}: {error}")

// Sessions and conversations of the real model.
import { expect, test } from "vitest";

import {
  ConnectionLostError,
  DeadlineExceededError,
  HistoryTooLongError,
  InvalidArgumentError,
  NotFoundError,
  UnavailableError,
} from "../src/index.js";
import type { Client, Session } from "../src/index.js";
import { Conversation, StreamDecoder, tokensForChat, tokensForTurn } from "../src/tokenization.js";
import { collect, real, restart, sleep, thrown, tokenizer } from "./given.js";

const TEXT = "The three primary colours are red, yellow and blue, since";
/** So hot that two streams that differ in anything differ in their tokens. */
const SAMPLED = { temperature: 1.5, seed: 7 };
/** As many as the server's limit on a history leaves: no test reads them to their end. */
const WITHOUT_END = 2500;

const prompt = () => tokenizer().encode(TEXT);

async function generated(session: Session, count: number): Promise<number[]> {
  const generation = session.generate(count, SAMPLED);
  const tokens = await collect(generation);
  expect(tokens).toHaveLength(count);
  expect(generation.done).toMatchObject({ stopReason: "max_tokens", generatedTokenCount: count });
  return tokens;
}

/** The history's length once the generation has stopped, which it does within a step. */
async function settled(client: Client, session: Session): Promise<number> {
  for (let tries = 0; tries < 3000; tries += 1) {
    const found = (await client.sessions()).find((one) => one.sessionId === session.id);
    if (found?.busy === false) {
      return found.historyLength;
    }
    await sleep(10);
  }
  throw new Error("the session is still at work");
}

test("appending in pieces is the same session", async () => {
  const client = real();
  await using whole = await client.session();
  await using pieces = await client.session({ label: "pieces" });
  const tokens = await prompt();
  expect(await whole.append(tokens)).toBe(tokens.length);
  for (const token of tokens) {
    await pieces.append(new Set([token]));
  }
  expect(await pieces.append([])).toBe(tokens.length);
  expect(await whole.digest()).toEqual(await pieces.digest());
  expect(await generated(whole, 12)).toEqual(await generated(pieces, 12));
  const listed = (await client.sessions()).map((one) => [one.sessionId, one.clientLabel]);
  expect(new Map(listed as [string, string][])).toEqual(new Map([[whole.id, ""], [pieces.id, "pieces"]]));
});

test("what a generation tells", async () => {
  await using session = await real().session();
  const length = await session.append(await prompt());
  const generation = session.generate(3, { topLogprobs: 2 });
  for await (const token of generation) {
    // Greedy: the likeliest is taken.
    expect(generation.logprobs?.top[0]).toEqual({ tokenId: token, logprob: generation.logprobs?.logprob });
    expect(generation.logprobs?.top).toHaveLength(2);
  }
  expect(generation.done?.totalDurationSeconds).toBeGreaterThan(0);
  expect(await session.info()).toMatchObject({ historyLength: length + 3, inv1Violations: 0, inv2Violations: 0 });
  expect(await session.close()).toBe(length + 3);
  const error = await thrown(() => session.info());
  expect(error).toBeInstanceOf(NotFoundError);
  expect(error.message).toContain("open a new one with client.session()");
});

test("generations stop where they are asked to", async () => {
  const client = real();
  const tokens = await prompt();
  await using session = await client.session();
  await session.append(tokens);
  const [fork] = await session.fork();
  const [first = 0, second = 0] = await generated(fork as Session, 2);
  await fork?.close();
  const stopped = session.generate(50, { ...SAMPLED, stopSequences: [[first, second]] });
  expect(await collect(stopped)).toEqual([first, second]);
  expect(stopped.done?.stopReason).toBe("stop_sequence");
  await using ending = await client.session({ eosTokenIds: [first] });
  await ending.append(tokens);
  const ended = ending.generate(50, SAMPLED);
  expect(await collect(ended)).toEqual([first]);
  expect(ended.done?.stopReason).toBe("eos");
  expect(await collect(ending.generate(2, { logitBias: { 42: 100 } }))).toEqual([42, 42]);
});

for (const left of ["cancelled", "broken", "aborted", "forgotten"]) {
  test(`leaving a stream stops it and keeps the session: ${left}`, async () => {
    const client = real();
    await using session = await client.session();
    const length = await session.append(await prompt());
    const [fork] = await session.fork();
    const expected = await generated(fork as Session, 150);
    await fork?.close();
    const seen: number[] = [];
    const controller = new AbortController();
    await (async () => {
      const generation = session.generate(WITHOUT_END, { ...SAMPLED, signal: controller.signal });
      if (left === "broken") {
        for await (const token of generation) {
          seen.push(token);
          break;
        }
        return;
      }
      seen.push((await generation.next()).value ?? -1);
      if (left === "cancelled") {
        generation.cancel();
        expect(await collect(generation)).toEqual([]);
        expect(generation.done).toBeUndefined();
      } else if (left === "aborted") {
        controller.abort(new RangeError("enough"));
        expect(await thrown(() => collect(generation))).toMatchObject({ message: "enough" });
      }
    })();
    for (let tries = 0; left === "forgotten" && tries < 100; tries += 1) {
      globalThis.gc?.();
      await sleep(10);
      if ((await client.sessions()).every((one) => !one.busy)) {
        break;
      }
    }
    const emitted = (await settled(client, session)) - length;
    expect(emitted).toBeLessThan(150);
    expect(seen).toEqual(expected.slice(0, seen.length));
    // It goes on from exactly what was emitted.
    expect(await generated(session, 2)).toEqual(expected.slice(emitted, emitted + 2));
  });
}

test("a deadline leaves what was emitted", async () => {
  const client = real();
  await using session = await client.session();
  const length = await session.append(await prompt());
  const seen: number[] = [];
  const error = await thrown(async () => {
    for await (const token of session.generate(WITHOUT_END, { timeoutMs: 500 })) {
      seen.push(token);
    }
  });
  expect(error).toBeInstanceOf(DeadlineExceededError);
  expect(await settled(client, session)).toBeGreaterThanOrEqual(length + seen.length);
  expect(await collect(session.generate(2))).toHaveLength(2);
});

test("copies go on with the same bits", async () => {
  const client = real();
  await using session = await client.session();
  await session.append(await prompt());
  const snapshot = await session.snapshot();
  const state = await session.digest();
  const [fork] = await session.fork();
  const halves = [snapshot.subarray(0, 1000), snapshot.subarray(1000)];
  const copies = [fork as Session, await client.restore(snapshot), await client.restore(halves)];
  const expected = await generated(session, 12);
  for (const copy of copies) {
    expect(await copy.digest()).toEqual(state);
    expect(await generated(copy, 12)).toEqual(expected);
    await copy.close();
  }
  expect(await thrown(() => client.restore(new Uint8Array([1, 2, 3])))).toBeInstanceOf(InvalidArgumentError);
  const gone = new RangeError("enough");
  expect(await thrown(() => session.snapshot({ signal: AbortSignal.abort(gone) }))).toBe(gone);
});

test("bad values are named and change nothing", async () => {
  await using session = await real().session();
  const tokens = await prompt();
  const refused = async (what: () => unknown, said: string) => {
    const error = await thrown(what);
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toContain(said);
  };
  await refused(() => collect(session.generate(1)), "is empty: append at least one token");
  await session.append(tokens);
  await refused(() => session.append([1, 4294967295]), "token 4294967295 at index 1 is outside the vocabulary");
  await refused(() => collect(session.generate(0)), "max_tokens is 0");
  await refused(() => collect(session.generate(1, { temperature: 1000 })), "temperature is 1000");
  await refused(() => session.fork(0), "count is 0");
  expect((await session.info()).historyLength).toBe(tokens.length);
  const error = await thrown(() => session.append(new Array<number>(3000).fill(1)));
  expect(error).toBeInstanceOf(HistoryTooLongError);
  expect(error.message).toContain("begin a new session");
});

test("ids of elsewhere and evicted sessions are not found", async () => {
  const client = real();
  for (const elsewhere of ["sess-00000000000000000000000000000007", "", "ключ", "a".repeat(10_000)]) {
    const error = await thrown(() => client.attach(elsewhere).append([1]));
    expect(error).toBeInstanceOf(NotFoundError);
    expect(error.message).toContain("each belongs to one server and one key");
  }
  const first = await client.session();
  const others = await Promise.all([1, 2, 3, 4].map(() => client.session()));
  const error = await thrown(() => first.append([1]));
  expect(error).toBeInstanceOf(NotFoundError);
  await Promise.all(others.map((other) => other.close()));
});

test("a server that restarts in mid-stream", async () => {
  const client = real();
  const session = await client.session();
  await session.append(await prompt());
  const generation = session.generate(WITHOUT_END);
  await generation.next();
  await restart();
  const error = await thrown(() => collect(generation));
  expect(error).toBeInstanceOf(ConnectionLostError);
  // The client connects anew by itself; the session went with its server.
  for (let tries = 0; ; tries += 1) {
    const gone = await thrown(() => session.info());
    if (gone instanceof NotFoundError) {
      break;
    }
    expect(gone).toBeInstanceOf(UnavailableError);
    expect(tries).toBeLessThan(100);
    await sleep(100);
  }
  await using fresh = await client.session();
  expect(await fresh.append([1, 2])).toBe(2);
});

test("three turns read each token once", async () => {
  const own = tokenizer();
  await using session = await real().session({ eosTokenIds: await own.eosTokenIds() });
  const conversation = new Conversation(session, own, { system: "Answer briefly." });
  const messages = [{ role: "system", content: "Answer briefly." }];
  for (const question of ["What is the capital of France?", "And of Italy?", "Which is further north?"]) {
    const answer = (await collect(conversation.say(question, { maxTokens: 60 }))).join("");
    expect(answer).not.toBe("");
    expect(answer).not.toContain("<|im_end|>");
    messages.push({ role: "user", content: question }, { role: "assistant", content: answer });
  }
  const whole = await tokensForChat(messages, own, { addGenerationPrompt: false });
  if (conversation.done?.stopReason === "eos") {
    expect((await session.info()).historyLength).toBe(whole.length - 1);
  }
});

test("an answer is that of the HTTP port", async () => {
  const own = tokenizer();
  const messages = [{ role: "user", content: "What is the capital of France?" }];
  const body = { model: await own.model(), messages, max_tokens: 24, temperature: 0 };
  const request = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(`${own.url}/v1/chat/completions`, request);
  const { choices } = (await answer.json()) as { choices: { message: { content: string } }[] };
  await using session = await real().session({ eosTokenIds: await own.eosTokenIds() });
  const said = new Conversation(session, own).say("What is the capital of France?", { maxTokens: 24 });
  expect((await collect(said)).join("")).toBe(choices[0]?.message.content);
});

test("an answer that was cut short is ended by the next turn", async () => {
  const own = tokenizer();
  const [end] = await own.encode("<|im_end|>");
  const said = [{ role: "user", content: "Go on." }];
  const whole = await tokensForTurn(said, own);
  expect(await tokensForTurn(said, own, { lastToken: end })).toEqual(whole.slice(1));
  expect(await own.decode(whole)).toBe("<|im_end|>\n<|im_start|>user\nGo on.<|im_end|>\n<|im_start|>assistant\n");
  await using session = await real().session({ eosTokenIds: await own.eosTokenIds() });
  const conversation = new Conversation(session, own);
  for await (const piece of conversation.say("Count from one to a hundred.", { maxTokens: 200 })) {
    expect(piece).not.toBe("");
    break;
  }
  expect(conversation.done).toBeUndefined();
  expect(await collect(conversation.say("Stop.", { maxTokens: 4 }))).not.toEqual([]);
});

test("characters come whole", async () => {
  const own = tokenizer();
  const text = "naïve 🙂 漢字, עברית\n\n  indented 👩‍👩‍👧 end";
  const decoder = new StreamDecoder(own);
  let told = "";
  for (const token of await own.encode(text)) {
    const piece = await decoder.push(token);
    expect(piece).not.toContain("\ufffd");
    told += piece;
  }
  expect(told + (await decoder.finish())).toBe(text);
});

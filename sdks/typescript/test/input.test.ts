// What is refused before anything is sent. The door would answer UNAVAILABLE to whatever came through.
import { expect, test } from "vitest";

import { Client, ClosedClientError, InvalidInputError, MessageTooLargeError } from "../src/index.js";
import { client, given, SESSION, thrown } from "./given.js";

const session = () => client(given("KAKEYA_TEST_CLOSED")).attach(SESSION);

async function refused(what: () => unknown, said: string, kind: unknown = InvalidInputError): Promise<void> {
  const error = await thrown(what);
  expect(error).toBeInstanceOf(kind);
  expect(error.message).toContain(said);
}

test("what is no token is named with its place", async () => {
  for (const [ids, said] of [
    [[1, -1], "tokenIds[1] is -1, and must be from 0 to 4294967295"],
    [[2 ** 32], "tokenIds[0] is 4294967296"],
    [[1.5], "tokenIds[0] is 1.5, and must be a whole number"],
    [[NaN], "tokenIds[0] is NaN"],
    [["1"], 'tokenIds[0] is "1", and must be a whole number'],
    [[1n], "tokenIds[0] is 1n"],
    [[undefined], "tokenIds[0] is undefined"],
    ["hello", 'tokenIds is "hello", and must be an iterable of token ids - @kakeya/runtime/tokenization'],
    [7, "tokenIds is 7"],
    [null, "tokenIds is null"],
  ] as const) {
    await refused(() => session().append(ids as unknown as number[]), said);
  }
});

test("an iterator that throws half-way throws its own error and sends nothing", async () => {
  const ids = function* () {
    yield 1;
    throw new RangeError("mine");
  };
  await refused(() => session().append(ids()), "mine", RangeError);
});

test("an iterator without end is not read for ever", async () => {
  const ids = function* () {
    for (;;) {
      yield 1;
    }
  };
  await refused(() => session().append(ids()), "4 MiB - append in pieces", MessageTooLargeError);
});

test("a message of more than four mebibytes is not sent", async () => {
  const ids = new Array<number>(1_500_000).fill(40_000);
  await refused(() => session().append(ids), "1500000 tokens take", MessageTooLargeError);
});

test("options are named", async () => {
  for (const [options, said] of [
    [{ seed: -1 }, "seed is -1n, and must be"],
    [{ seed: 2n ** 64n }, "seed is 18446744073709551616n"],
    [{ seed: 0.5 }, "seed is 0.5"],
    [{ temperature: "hot" }, 'temperature is "hot", and must be a finite number'],
    [{ temperature: Infinity }, "temperature is Infinity"],
    [{ topK: -1 }, "topK is -1"],
    [{ logitBias: { "-1": 0 } }, "a token of logitBias is -1"],
    [{ stopSequences: [[1], ["a"]] }, 'stopSequences[1][0] is "a"'],
    [{ temprature: 1 }, "temprature is no option: there are frequencyPenalty"],
    [{ timeoutMs: -1 }, "timeoutMs is -1, and must be 0 or more"],
    [{ timeoutMs: NaN }, "timeoutMs is NaN"],
  ] as const) {
    await refused(() => session().generate(1, options as object), said);
  }
  await refused(() => session().generate(-1), "maxTokens is -1");
  await refused(() => session().generate(1.5), "maxTokens is 1.5");
  await refused(() => client("127.0.0.1:1").session({ label: "\ud800" }), "lone surrogates");
});

test("addresses are host and port", async () => {
  for (const [target, said] of [
    ["http://127.0.0.1:50051", "without a scheme"],
    ["127.0.0.1", "must be host:port - such as 127.0.0.1:50051"],
    [":50051", "must be host:port"],
    ["127.0.0.1:port", "must be host:port"],
    ["127.0.0.1:70000", "must be host:port"],
    ["127.0.0.1:50051\n", "must be host:port"],
    [50051, "the address is 50051"],
  ] as const) {
    await refused(() => new Client(target as string), said);
  }
});

test("keys are what a header can hold and are not repeated", async () => {
  for (const [key, said] of [
    ["k-1\n", "the key has a line end at index 3 - a key read from a file wants .trim()"],
    ["", "the key is empty"],
    ["k 1", "a blank at index 1"],
    ["kéy", "no ASCII at index 1"],
    [7, "of type number"],
  ] as const) {
    const error = await thrown(() => new Client("127.0.0.1:1", { key: key as string }));
    expect(error.message).toContain(said);
    expect(error.message).not.toContain("k-1");
  }
  process.env["KAKEYA_API_KEY"] = "k-1\n";
  try {
    await refused(() => new Client(), "line end");
  } finally {
    delete process.env["KAKEYA_API_KEY"];
  }
});

test("certificates that are not there are named", async () => {
  await refused(() => client("a:1", { tls: { rootCertificates: "/nowhere.pem" } }), "cannot be read from /nowhere.pem: ENOENT");
  await refused(() => client("a:1", { tls: { certificate: new Uint8Array() } }), "needs both or neither");
});

test("a closed client says so and closes again", async () => {
  const closed = new Client(given("KAKEYA_TEST_CLOSED"));
  closed.close();
  closed.close();
  await refused(() => closed.session(), "this client is closed - make a new Client", ClosedClientError);
});

// What comes before a model: who answers, who is let in, and for how long anybody waits.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { expect, test } from "vitest";

import {
  DeadlineExceededError,
  ServerStoppingError,
  ServerUnreachableError,
  UnauthenticatedError,
} from "../src/index.js";
import { client, collect, given, SESSION, sleep, thrown } from "./given.js";

async function unreachable(what: () => unknown, ...said: string[]): Promise<void> {
  const error = await thrown(what);
  expect(error).toBeInstanceOf(ServerUnreachableError);
  said.forEach((part) => expect(error.message).toContain(part));
}

test("nobody listens", async () => {
  const free = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => free.once("listening", resolve));
  const address = `127.0.0.1:${(free.address() as AddressInfo).port}`;
  await new Promise((resolve) => free.close(resolve));
  const said = [`no server listens at ${address}`, `start one with \`kakeya serve --bind ${address}\``];
  await unreachable(() => client(address).session(), ...said);
  // A call that may be repeated is, and comes to the same end.
  await unreachable(() => client(address).sessions(), ...said);
});

test("a machine that is not there is named", async () => {
  await unreachable(() => client("nowhere.invalid:50051").session(), "nowhere.invalid:50051 names no machine");
});

test("the wrong port is told with the right one", async () => {
  const web = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => web.once("listening", resolve));
  const address = `127.0.0.1:${(web.address() as AddressInfo).port}`;
  await unreachable(
    () => client(address).session(),
    "does not speak plain gRPC",
    "give the port after `listening on`, not that after `http listening on`",
  );
  web.close();
});

test("TLS on one side alone is told", async () => {
  await unreachable(() => client(given("KAKEYA_TEST_CLOSED"), { tls: true }).session(), "does not speak TLS");
  await unreachable(() => client(given("KAKEYA_TEST_TLS")).session(), "{ tls: true }");
  await unreachable(() => client(given("KAKEYA_TEST_TLS"), { tls: true }).session(), "is not trusted here");
});

test("TLS comes through by its root", async () => {
  const port = given("KAKEYA_TEST_TLS").split(":")[1];
  const tls = { rootCertificates: given("KAKEYA_TEST_ROOT") };
  expect(await thrown(() => client(`localhost:${port}`, { tls }).session())).toBeInstanceOf(ServerStoppingError);
});

test("a key is asked for and let in", async () => {
  const door = given("KAKEYA_TEST_LOCKED");
  for (const options of [{}, { key: "k-wrong" }]) {
    const error = await thrown(() => client(door, options).session());
    expect(error).toBeInstanceOf(UnauthenticatedError);
    expect(error.message).toContain("give new Client(address, { key }) or set KAKEYA_API_KEY");
  }
  const key = given("KAKEYA_TEST_KEY");
  expect(await thrown(() => client(door, { key }).session())).toBeInstanceOf(ServerStoppingError);
});

test("a server that stops says what becomes of sessions", async () => {
  const session = client(given("KAKEYA_TEST_CLOSED"), { compress: true }).attach(SESSION);
  for (const call of [() => session.append([1]), () => session.info(), () => collect(session.generate(1))]) {
    const error = await thrown(call);
    expect(error).toBeInstanceOf(ServerStoppingError);
    expect(error.message).toMatch(/takes no work: the engine .* `--state-dir` keeps sessions/);
  }
});

test("a block ends without an error of its own where the server is gone", async () => {
  const error = await thrown(async () => {
    await using _session = client(given("KAKEYA_TEST_CLOSED")).attach(SESSION);
    throw new RangeError("mine");
  });
  expect(error.message).toBe("mine");
});

test("a deadline of nothing has passed", async () => {
  const session = client(given("KAKEYA_TEST_SILENT")).attach(SESSION);
  for (const call of [
    () => session.append([1], { timeoutMs: 0 }),
    () => session.snapshot({ timeoutMs: 0 }),
    () => collect(session.generate(1, { timeoutMs: 0 })),
  ]) {
    const error = await thrown(call);
    expect(error).toBeInstanceOf(DeadlineExceededError);
    expect(error.message).toContain("give a larger `timeoutMs`, or none");
  }
});

test("a deadline ends a wait", async () => {
  const silent = client(given("KAKEYA_TEST_SILENT"), { timeoutMs: 200 });
  expect(await thrown(() => silent.session())).toBeInstanceOf(DeadlineExceededError);
  expect(await thrown(() => collect(silent.attach(SESSION).generate(1)))).toBeInstanceOf(DeadlineExceededError);
  // One of the call's own outdoes the client's.
  const start = performance.now();
  expect(await thrown(() => silent.session({ timeoutMs: 500 }))).toBeInstanceOf(DeadlineExceededError);
  expect(performance.now() - start).toBeGreaterThan(400);
});

test("a signal gives a call up with its own reason", async () => {
  const session = client(given("KAKEYA_TEST_SILENT")).attach(SESSION);
  for (const call of [
    (signal: AbortSignal) => session.append([1], { signal }),
    (signal: AbortSignal) => collect(session.generate(1, { signal })),
  ]) {
    expect(await thrown(() => call(AbortSignal.abort(new RangeError("before"))))).toMatchObject({ message: "before" });
    const controller = new AbortController();
    const waiting = thrown(() => call(controller.signal));
    await sleep(100);
    controller.abort(new RangeError("meanwhile"));
    expect(await waiting).toMatchObject({ message: "meanwhile" });
  }
});

test("a stream can be left before anything has come, and forgotten before anybody reads", async () => {
  const session = client(given("KAKEYA_TEST_SILENT")).attach(SESSION);
  const generation = session.generate(1);
  generation.cancel();
  generation.cancel();
  expect(await collect(generation)).toEqual([]);
  expect(generation.done).toBeUndefined();
  // One that fails while nobody reads it must not end the process.
  client(given("KAKEYA_TEST_CLOSED")).attach(SESSION).generate(1);
  await sleep(300);
});

// What a proxy in front of several servers sees: the same `kakeya-route` with every call of a session.
import { Server, ServerCredentials, status } from "@grpc/grpc-js";
import type { Metadata, UntypedHandleCall } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "vitest";

import { Client, InvalidInputError } from "../src/index.js";
import { RuntimeServiceService } from "../src/generated/kakeya/v1/runtime.js";
import { SessionServiceService } from "../src/generated/kakeya/v1/session.js";
import { collect, SESSION, thrown } from "./given.js";

interface Call {
  readonly metadata: Metadata;
  end(): void;
}
type Done = (error: object | null, answer?: object) => void;

let calls: [string, string | undefined][] = [];
let server: Server;
let client: Client;

/** Notes each call's name and route. It opens sessions, and does nothing else. */
function noting(definitions: object): Record<string, UntypedHandleCall> {
  const handle = (name: string) => (call: Call, done?: Done) => {
    const routes = call.metadata.get("kakeya-route");
    expect(routes.length).toBeLessThanOrEqual(1);
    calls.push([name, routes[0]?.toString()]);
    if (done === undefined) {
      call.end();
    } else if (name === "createSession" || name === "restoreSession") {
      done(null, { sessionId: SESSION, historyLength: 0n });
    } else {
      done({ code: status.INTERNAL, details: "no" });
    }
  };
  return Object.fromEntries(Object.keys(definitions).map((name) => [name, handle(name) as UntypedHandleCall]));
}

beforeEach(async () => {
  calls = [];
  server = new Server();
  server.addService(RuntimeServiceService, noting(RuntimeServiceService));
  server.addService(SessionServiceService, noting(SessionServiceService));
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  client = new Client(`127.0.0.1:${port}`);
});

afterEach(() => {
  client.close();
  server.forceShutdown();
});

test("every call of a session has its route", async () => {
  const session = await client.session({ route: "user-7" });
  expect(session.route).toBe("user-7");
  for (const call of [() => session.append([1]), () => session.info(), () => session.fork(), () => session.digest()]) {
    await thrown(call);
  }
  expect(await collect(session.generate(1))).toEqual([]);
  await session.snapshot();
  await thrown(() => session.close());
  const names = ["createSession", "appendTokens", "getSessionInfo", "forkSession", "getStateDigest", "generate"];
  expect(calls).toEqual([...names, "snapshotSession", "closeSession"].map((name) => [name, "user-7"]));
  calls = [];
  const restored = await client.restore(new Uint8Array(3), { route: "user-8" });
  expect([restored.route, calls]).toEqual(["user-8", [["restoreSession", "user-8"]]]);
});

test("each session has a route of its own, and one that is attached has the one given", async () => {
  const [one, two] = [await client.session(), await client.session()];
  expect(one.route).not.toBe(two.route);
  expect(calls.map(([, route]) => route)).toEqual([one.route, two.route]);
  calls = [];
  await thrown(() => client.attach(SESSION).info());
  await thrown(() => client.attach(SESSION, { route: one.route ?? "" }).info());
  expect(calls).toEqual([
    ["getSessionInfo", undefined],
    ["getSessionInfo", one.route],
  ]);
});

test("routes are what a header can hold", async () => {
  for (const route of ["", " ", "a b", "caf\u00e9", "line\n", "x".repeat(257), 7 as unknown as string]) {
    for (const call of [() => client.session({ route }), () => client.attach(SESSION, { route })]) {
      const error = await thrown(call);
      expect(error).toBeInstanceOf(InvalidInputError);
      expect(error.message).toContain("must be 1 to 256 printable ASCII characters");
    }
  }
  expect(calls).toEqual([]);
});

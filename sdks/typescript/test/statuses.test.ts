// Each status has a class of its own, and only what changes nothing is repeated. The server here is gRPC's own, and answers
// every call with a status.
import { Server, ServerCredentials, status as Status } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";

import * as runtime from "../src/index.js";
import { RuntimeServiceService } from "../src/generated/kakeya/v1/runtime.js";
import { SessionServiceService } from "../src/generated/kakeya/v1/session.js";
import { client, collect, SESSION, thrown } from "./given.js";

const calls: Record<string, number> = {};
let code = Status.UNAVAILABLE;
const server = new Server();
let address = "";

beforeAll(async () => {
  for (const service of [RuntimeServiceService, SessionServiceService]) {
    const refusals = Object.entries(service).map(([name, method]) => {
      const refuse = (call: any, callback?: any) => {
        calls[name] = (calls[name] ?? 0) + 1;
        const error = { code, details: "said by a test" };
        return method.responseStream ? call.emit("error", error) : callback(error);
      };
      return [name, refuse];
    });
    server.addService(service as never, Object.fromEntries(refusals));
  }
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  address = `127.0.0.1:${port}`;
});
afterAll(() => server.forceShutdown());

test("every status has a class of its own", async () => {
  const session = client(address, { timeoutMs: 20_000 }).attach(SESSION);
  const expected: [Status, unknown][] = [
    [Status.CANCELLED, runtime.CallCancelledError],
    [Status.UNKNOWN, runtime.UnknownError],
    [Status.INVALID_ARGUMENT, runtime.InvalidArgumentError],
    [Status.DEADLINE_EXCEEDED, runtime.DeadlineExceededError],
    [Status.NOT_FOUND, runtime.NotFoundError],
    [Status.ALREADY_EXISTS, runtime.AlreadyExistsError],
    [Status.PERMISSION_DENIED, runtime.PermissionDeniedError],
    [Status.RESOURCE_EXHAUSTED, runtime.ResourceExhaustedError],
    [Status.FAILED_PRECONDITION, runtime.FailedPreconditionError],
    [Status.ABORTED, runtime.AbortedError],
    [Status.OUT_OF_RANGE, runtime.MessageTooLargeError],
    [Status.UNIMPLEMENTED, runtime.UnimplementedError],
    [Status.INTERNAL, runtime.InternalError],
    [Status.UNAVAILABLE, runtime.ConnectionLostError],
    [Status.DATA_LOSS, runtime.DataLossError],
    [Status.UNAUTHENTICATED, runtime.UnauthenticatedError],
  ];
  const all = Object.values(Status).filter((value) => typeof value === "number");
  expect(expected.length).toBe(all.length - 1);
  expect(new Set(expected.map(([, kind]) => kind)).size).toBe(expected.length);
  for (const [status, kind] of expected) {
    code = status;
    for (const call of [() => session.append([1]), () => collect(session.generate(1))]) {
      const error = await thrown(call);
      expect(error.constructor, Status[status]).toBe(kind);
      expect(error.name).toBe(error.constructor.name);
      expect(error).toMatchObject({ status });
      expect(error.message).toContain("said by a test");
    }
  }
});

test("only what changes nothing is repeated", async () => {
  const asking = client(address, { timeoutMs: 20_000 });
  const session = asking.attach(SESSION);
  code = Status.UNAVAILABLE;
  Object.keys(calls).forEach((name) => delete calls[name]);
  for (const call of [
    () => asking.session(),
    () => session.append([1]),
    () => collect(session.generate(1)),
    () => session.fork(),
    () => session.snapshot(),
    () => asking.restore(new Uint8Array(3)),
    () => session.close(),
    () => session.info(),
    () => session.digest(),
    () => asking.sessions(),
  ]) {
    expect(await thrown(call)).toBeInstanceOf(runtime.UnavailableError);
  }
  expect(calls).toEqual({
    createSession: 1,
    appendTokens: 1,
    generate: 1,
    forkSession: 1,
    snapshotSession: 1,
    restoreSession: 1,
    closeSession: 1,
    getSessionInfo: 4,
    getStateDigest: 4,
    listSessions: 4,
  });
});

test("a snapshot is bytes", async () => {
  const error = await thrown(() => client(address).restore(["abc"] as never));
  expect(error.message).toContain('a piece of the snapshot is "abc", and must be a Uint8Array');
});

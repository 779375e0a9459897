/** What goes wrong, one class for each gRPC status, each saying the cause and what to do next. */

import { status as Status } from "@grpc/grpc-js";

/** A call that did not do what it was asked to. `status` is the server's, or undefined where nothing was sent. */
export class KakeyaError extends Error {
  readonly detail: string;
  /** What to do next; empty where the detail says it. */
  readonly advice: string;
  readonly status: Status | undefined;

  constructor(detail: string, advice = "", status?: Status, cause?: unknown) {
    super(advice === "" ? detail : `${detail} - ${advice}`, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.detail = detail;
    this.advice = advice;
    this.status = status;
  }
}

/** CANCELLED: the call was given up, by this side or because the server stopped. */
export class CallCancelledError extends KakeyaError {}
/** UNKNOWN: something between here and the server answered what no Kakeya server does. */
export class UnknownError extends KakeyaError {}
/** INVALID_ARGUMENT: a value is out of its range, and the session is as it was. */
export class InvalidArgumentError extends KakeyaError {}
/** A value that was refused before anything was sent. */
export class InvalidInputError extends InvalidArgumentError {}
/** The session cannot take so many tokens: the model's context, or the `max_history` of a limit, is used up. */
export class HistoryTooLongError extends InvalidArgumentError {}
/** DEADLINE_EXCEEDED: the time was over. A session keeps exactly the tokens that were emitted until then. */
export class DeadlineExceededError extends KakeyaError {}
/** NOT_FOUND: this server has no such session, or not for this key. */
export class NotFoundError extends KakeyaError {}
/** ALREADY_EXISTS: no Kakeya server of this version answers it. */
export class AlreadyExistsError extends KakeyaError {}
/** PERMISSION_DENIED: something in front of the server refused, since Kakeya itself does not answer it. */
export class PermissionDeniedError extends KakeyaError {}
/** RESOURCE_EXHAUSTED: every place is taken, or a limit is used up for now. Nothing was done. */
export class ResourceExhaustedError extends KakeyaError {}
/** FAILED_PRECONDITION: a snapshot of other settings, or a session that broke an invariant and has ended. */
export class FailedPreconditionError extends KakeyaError {}
/** ABORTED: no Kakeya server of this version answers it. */
export class AbortedError extends KakeyaError {}
/** OUT_OF_RANGE: one message is larger than 4 MiB. */
export class MessageTooLargeError extends KakeyaError {}
/** UNIMPLEMENTED: the server does not have this call. */
export class UnimplementedError extends KakeyaError {}
/** INTERNAL: a fault of the server. */
export class InternalError extends KakeyaError {}
/** UNAVAILABLE: nobody answered, or who answered takes no work. */
export class UnavailableError extends KakeyaError {}
/** No Kakeya server answers at the address. The call has not reached one. */
export class ServerUnreachableError extends UnavailableError {}
/** The server is draining, or its engine has stopped: it takes no new work. */
export class ServerStoppingError extends UnavailableError {}
/** The connection broke during the call, which may or may not have been done: it is not repeated. */
export class ConnectionLostError extends UnavailableError {}
/** DATA_LOSS: a snapshot is damaged. */
export class DataLossError extends KakeyaError {}
/** UNAUTHENTICATED: no key, or one that the server does not know. */
export class UnauthenticatedError extends KakeyaError {}
/** A client was used after it was closed. */
export class ClosedClientError extends KakeyaError {}

type Kind = new (detail: string, advice?: string, status?: Status, cause?: unknown) => KakeyaError;

const kinds: Record<number, readonly [Kind, string]> = {
  [Status.CANCELLED]: [CallCancelledError, ""],
  [Status.UNKNOWN]: [UnknownError, "is this the gRPC port of `kakeya serve`, and nothing else between?"],
  [Status.INVALID_ARGUMENT]: [InvalidArgumentError, ""],
  [Status.DEADLINE_EXCEEDED]: [
    DeadlineExceededError,
    "give a larger `timeoutMs`, or none, and look at session.info() before you ask again",
  ],
  [Status.NOT_FOUND]: [
    NotFoundError,
    "open a new one with client.session() and append its history again. Sessions end when they are closed, idle for " +
      "longer than `--idle-ttl`, evicted for a newer one (`--capacity`), or with their server (`--state-dir` keeps " +
      "them); each belongs to one server and one key",
  ],
  [Status.ALREADY_EXISTS]: [AlreadyExistsError, ""],
  [Status.PERMISSION_DENIED]: [PermissionDeniedError, "ask who runs the proxy in front of the server"],
  [Status.RESOURCE_EXHAUSTED]: [
    ResourceExhaustedError,
    "ask again later, close sessions that are done, or serve with a larger `--capacity`",
  ],
  [Status.FAILED_PRECONDITION]: [FailedPreconditionError, ""],
  [Status.ABORTED]: [AbortedError, ""],
  [Status.OUT_OF_RANGE]: [
    MessageTooLargeError,
    "append in pieces of at most 1000000 tokens: the session is the same, to the bit",
  ],
  [Status.UNIMPLEMENTED]: [
    UnimplementedError,
    "the server is older than this package, or another program: compare `kakeya --version` with this package's",
  ],
  [Status.INTERNAL]: [InternalError, "the server's log says more"],
  [Status.DATA_LOSS]: [DataLossError, "take the snapshot again"],
  [Status.UNAUTHENTICATED]: [
    UnauthenticatedError,
    "give new Client(address, { key }) or set KAKEYA_API_KEY; `kakeya key new NAME` makes one for the server's `--keys` file",
  ],
};

/** A failure as gRPC reports it. */
export interface StatusLike {
  readonly code: Status;
  readonly details: string;
}

/** Whether a failure is one that gRPC reports. */
export function isStatus(error: unknown): error is StatusLike {
  return error instanceof Error && typeof (error as Partial<StatusLike>).code === "number" && "details" in error;
}

/** The error that a call to `target` ended with. */
export function fromStatus(failure: StatusLike, target: string): KakeyaError {
  const { code } = failure;
  // OpenSSL ends lines in the middle of what it says.
  const details = failure.details.replace(/\s+/g, " ").trim();
  if (code === Status.UNAVAILABLE) {
    return unavailable(details, target, failure);
  }
  if (code === Status.INVALID_ARGUMENT && /pass the model's context|tokens of history and/.test(details)) {
    const advice =
      "append fewer tokens, begin a new session, or serve with a bounded `--window` or a larger `--max-history`";
    return new HistoryTooLongError(details, advice, code, failure);
  }
  const [Kind, advice] = kinds[code] ?? [UnknownError, ""];
  return new Kind(details === "" ? (Status[code] ?? "no details") : details, advice, code, failure);
}

function unavailable(details: string, target: string, cause: StatusLike): UnavailableError {
  const unreachable = (detail: string, advice: string) =>
    new ServerUnreachableError(`${detail} (${details})`, advice, cause.code, cause);
  if (details.startsWith("the engine ")) {
    const advice = "wait until it is back, or connect to another; `--state-dir` keeps sessions over a restart";
    return new ServerStoppingError(`the server at ${target} takes no work: ${details}`, advice, cause.code, cause);
  }
  if (details.startsWith("Name resolution failed")) {
    const advice = "give host:port as `kakeya serve` prints it after `listening on`";
    return unreachable(`${target} names no machine that can be found`, advice);
  }
  if (!details.startsWith("No connection established")) {
    const advice = "if the server is still there, session.info() says how long the history has become; then decide";
    return new ConnectionLostError(`the connection to ${target} broke (${details})`, advice, cause.code, cause);
  }
  if (/self-signed|certificate|issuer/i.test(details)) {
    const advice = "give new Client(address, { tls: { rootCertificates } }) what the server's own certificate leads to";
    return unreachable(`the certificate of ${target} is not trusted here`, advice);
  }
  if (/wrong version number|WRONG_VERSION_NUMBER|packet length too long/i.test(details)) {
    const advice = "leave `tls` out, or start the server with `--tls-cert` and `--tls-key`";
    return unreachable(`what listens at ${target} does not speak TLS`, advice);
  }
  if (details.includes("ECONNREFUSED")) {
    const advice = `start one with \`kakeya serve --bind ${target}\`, or give the address it prints after \`listening on\``;
    return unreachable(`no server listens at ${target}`, advice);
  }
  if (/protocol|ECONNRESET|Parse Error|socket|Failed to connect|closed/i.test(details)) {
    const advice =
      "give the port after `listening on`, not that after `http listening on`; or, if the server has certificates, " +
      "{ tls: true }";
    return unreachable(`what listens at ${target} does not speak plain gRPC`, advice);
  }
  return unreachable(`${target} cannot be reached`, "is the machine up, the address right, and no firewall between?");
}

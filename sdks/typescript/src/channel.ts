/** Where a client connects, and how: the address, TLS, the key, and what may be repeated. */

import { readFileSync } from "node:fs";

import { compressionAlgorithms, credentials, Metadata } from "@grpc/grpc-js";
import type { ChannelCredentials, ChannelOptions } from "@grpc/grpc-js";

import { InvalidInputError } from "./errors.js";

/** Where `kakeya serve` listens unless it is told otherwise. */
export const DEFAULT_TARGET = "127.0.0.1:50051";
/** The variable that a key is taken from when none is given. */
const KEY_VARIABLE = "KAKEYA_API_KEY";

/** Certificates: each PEM bytes, or the path of a PEM file. */
export interface Tls {
  /** Roots that the server's certificate must lead to; without, those of Node. */
  readonly rootCertificates?: Uint8Array | string;
  /** This side's own certificate and its key, for servers with `--tls-client-ca`. */
  readonly certificate?: Uint8Array | string;
  readonly privateKey?: Uint8Array | string;
}

/** How a client connects. */
export interface ClientOptions {
  /** An API key; taken from KAKEYA_API_KEY where it is left out. */
  readonly key?: string;
  /** True for Node's roots. */
  readonly tls?: boolean | Tls;
  /** Milliseconds for each call that has none of its own; left out, a call takes as long as the server is there. */
  readonly timeoutMs?: number;
  /** Whether requests are compressed. */
  readonly compress?: boolean;
}

// Calls that change nothing may be repeated. Others are sent again only by gRPC's own rule: where they never left, or the
// server says that it has not looked at them.
const reads = [
  { service: "kakeya.v1.RuntimeService", method: "GetSessionInfo" },
  { service: "kakeya.v1.SessionService", method: "ListSessions" },
  { service: "kakeya.v1.SessionService", method: "GetStateDigest" },
];
const retryPolicy = {
  maxAttempts: 4,
  initialBackoff: "0.1s",
  maxBackoff: "1s",
  backoffMultiplier: 2,
  retryableStatusCodes: ["UNAVAILABLE"],
};

export function channelOptions(options: ClientOptions): ChannelOptions {
  return {
    "grpc.service_config": JSON.stringify({ methodConfig: [{ name: reads, retryPolicy }] }),
    "grpc.max_receive_message_length": 64 << 20,
    // A connection that is dead is noticed while a call waits on it.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 20_000,
    // A server that comes back is found soon.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2_000,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.default_compression_algorithm": options.compress === true ? compressionAlgorithms.gzip : compressionAlgorithms.identity,
  };
}

export function checkedTarget(target: unknown): string {
  const advice = `such as ${DEFAULT_TARGET}, which \`kakeya serve\` prints after \`listening on\``;
  if (typeof target === "string" && target.includes("://")) {
    const message = `the address is ${JSON.stringify(target)}, and must be host:port without a scheme`;
    throw new InvalidInputError(message, `${advice}; TLS is asked for with { tls: true }`);
  }
  const port = typeof target === "string" ? /^[^\s]+:(\d{1,5})$/.exec(target)?.[1] : undefined;
  if (typeof target !== "string" || port === undefined || Number(port) < 1 || Number(port) > 65535) {
    throw new InvalidInputError(`the address is ${JSON.stringify(target)}, and must be host:port`, advice);
  }
  return target;
}

export function checkedKey(given: unknown): string | undefined {
  const key = given ?? process.env[KEY_VARIABLE];
  if (key === undefined) {
    return undefined;
  }
  if (typeof key !== "string") {
    throw new InvalidInputError(`the key is of type ${typeof key}, and must be a string`);
  }
  if (key === "") {
    throw new InvalidInputError("the key is empty", `leave it out where the server has no keys (${KEY_VARIABLE})`);
  }
  const at = key.search(/[^!-~]/);
  if (at >= 0) {
    const char = key.charAt(at);
    const what = /[\r\n]/.test(char) ? "a line end" : char === " " ? "a blank" : "a character that is no ASCII";
    const advice = /\s/.test(char) ? "a key read from a file wants .trim()" : "copy it again as `kakeya key new` printed it";
    throw new InvalidInputError(`the key has ${what} at index ${at}`, advice);
  }
  return key;
}

/** What is sent beside each call, for a proxy to choose a server by where there is a route. */
export function metadataOf(key: string | undefined, route?: string): Metadata {
  const metadata = new Metadata();
  if (key !== undefined) {
    metadata.set("authorization", `Bearer ${key}`);
  }
  if (route !== undefined) {
    metadata.set(ROUTE, route);
  }
  return metadata;
}

/** Where a proxy in front of several servers finds what to choose by (docs/ops/several-machines.md). */
const ROUTE = "kakeya-route";
const MAX_ROUTE = 256;

export function checkedRoute(given: string): string {
  if (typeof given !== "string" || given.length > MAX_ROUTE || !/^[!-~]+$/.test(given)) {
    const message = `the route is ${JSON.stringify(given)}, and must be 1 to ${MAX_ROUTE} printable ASCII characters without blanks`;
    throw new InvalidInputError(message, "any text that tells sessions apart, such as a UUID");
  }
  return given;
}

export function credentialsOf(tls: boolean | Tls | undefined): ChannelCredentials {
  if (tls === undefined || tls === false) {
    return credentials.createInsecure();
  }
  const { rootCertificates, certificate, privateKey } = tls === true ? ({} as Tls) : tls;
  if ((certificate === undefined) !== (privateKey === undefined)) {
    throw new InvalidInputError("tls has a certificate or a privateKey alone, and needs both or neither");
  }
  return credentials.createSsl(
    pem("rootCertificates", rootCertificates),
    pem("privateKey", privateKey),
    pem("certificate", certificate),
  );
}

function pem(name: string, value: Uint8Array | string | undefined): Buffer | null {
  if (value === undefined) {
    return null;
  }
  if (typeof value !== "string") {
    return Buffer.from(value);
  }
  try {
    return readFileSync(value);
  } catch (error) {
    throw new InvalidInputError(`${name} cannot be read from ${value}: ${(error as NodeJS.ErrnoException).code}`);
  }
}

/** Requests, checked before they are sent: a serialiser would wrap a number that is too large, and say nothing. */

import { InvalidInputError, MessageTooLargeError } from "./errors.js";
import { AppendTokensRequest, CreateSessionRequest, GenerateRequest } from "./generated/kakeya/v1/runtime.js";
import type { GenerateOptions } from "./types.js";

/** Bytes of one message that the server reads. */
const MAX_MESSAGE = 4 << 20;
/** A snapshot is sent in messages of so many bytes. */
export const CHUNK = 1 << 20;
const UINT32 = 2 ** 32 - 1;
const UINT64 = 2n ** 64n - 1n;

function shown(value: unknown): string {
  let text: string;
  if (typeof value === "string") {
    text = JSON.stringify(value);
  } else if (typeof value === "bigint") {
    text = `${value}n`;
  } else if (typeof value === "object" && value !== null) {
    text = Array.isArray(value) ? "an array" : "an object";
  } else {
    text = String(value);
  }
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}

/** A whole number of 32 bits. */
export function unsigned(name: string, value: unknown): number {
  if (typeof value !== "number" || !Number.isInteger(value)) {
    throw new InvalidInputError(`${name} is ${shown(value)}, and must be a whole number from 0 to ${UINT32}`);
  }
  if (value < 0 || value > UINT32) {
    throw new InvalidInputError(`${name} is ${shown(value)}, and must be from 0 to ${UINT32}`);
  }
  return value;
}

function seedOf(value: unknown): bigint {
  if (typeof value === "number" && Number.isSafeInteger(value)) {
    return seedOf(BigInt(value));
  }
  if (typeof value !== "bigint" || value < 0n || value > UINT64) {
    const message = `seed is ${shown(value)}, and must be a whole number from 0 to ${UINT64}, a bigint beyond 2^53`;
    throw new InvalidInputError(message);
  }
  return value;
}

function real(name: string, value: unknown): number {
  if (typeof value !== "number" || !Number.isFinite(value)) {
    throw new InvalidInputError(`${name} is ${shown(value)}, and must be a finite number`);
  }
  return value;
}

/** Token ids. An error of the iterable itself passes as it is, and nothing has been sent by then. */
export function tokenIds(name: string, values: Iterable<number>): number[] {
  const iterable: unknown = values;
  if (typeof iterable !== "object" || iterable === null || !(Symbol.iterator in iterable)) {
    const advice = "@kakeya/runtime/tokenization makes token ids of texts";
    throw new InvalidInputError(`${name} is ${shown(values)}, and must be an iterable of token ids`, advice);
  }
  const ids: number[] = [];
  for (const value of values) {
    // A name for each of a million would take longer than all else.
    const plain = Number.isInteger(value) && value >= 0 && value <= UINT32;
    ids.push(plain ? value : unsigned(`${name}[${ids.length}]`, value));
    // Each takes a byte or more, so an iterator without end is not read for ever.
    if (ids.length > MAX_MESSAGE) {
      throw tooLarge(`${name} has more than ${MAX_MESSAGE} tokens, and one message holds 4 MiB`);
    }
  }
  return ids;
}

function tooLarge(detail: string): MessageTooLargeError {
  const advice = "append in pieces of at most 1000000 tokens: the session is the same, to the bit";
  return new MessageTooLargeError(detail, advice);
}

/** A text that can be sent as UTF-8. */
export function text(name: string, value: unknown): string {
  if (typeof value !== "string") {
    throw new InvalidInputError(`${name} is ${shown(value)}, and must be a string`);
  }
  if (/\p{Surrogate}/u.test(value)) {
    throw new InvalidInputError(`${name} has lone surrogates, which UTF-8 cannot write`);
  }
  return value;
}

/** When a call of so many milliseconds ends. */
export function deadline(timeoutMs: number | undefined): number | undefined {
  if (timeoutMs === undefined) {
    return undefined;
  }
  const milliseconds = real("timeoutMs", timeoutMs);
  if (milliseconds < 0) {
    throw new InvalidInputError(`timeoutMs is ${milliseconds}, and must be 0 or more, or left out for no limit`);
  }
  return Date.now() + milliseconds;
}

export function create(label: string, eosTokenIds: Iterable<number>): CreateSessionRequest {
  return { clientLabel: text("label", label), eosTokenIds: tokenIds("eosTokenIds", eosTokenIds) };
}

export function append(sessionId: string, ids: Iterable<number>): AppendTokensRequest {
  const request = { sessionId, tokenIds: tokenIds("tokenIds", ids) };
  // A token takes at most five bytes, so only long ones are measured.
  if (request.tokenIds.length * 5 > MAX_MESSAGE) {
    const size = AppendTokensRequest.encode(request).finish().length;
    if (size > MAX_MESSAGE) {
      throw tooLarge(`${request.tokenIds.length} tokens take ${size} bytes, and one message holds 4 MiB`);
    }
  }
  return request;
}

const floats = [
  "temperature",
  "topP",
  "minP",
  "presencePenalty",
  "frequencyPenalty",
  "repetitionPenalty",
] as const satisfies readonly (keyof GenerateOptions)[];
const counts = ["topK", "topLogprobs"] as const satisfies readonly (keyof GenerateOptions)[];
const known = new Set<string>([...floats, ...counts, "seed", "logitBias", "stopSequences", "timeoutMs", "signal"]);

export function generate(sessionId: string, maxTokens: number, options: GenerateOptions): GenerateRequest {
  const unknown = Object.keys(options).find((name) => !known.has(name));
  if (unknown !== undefined) {
    throw new InvalidInputError(`${unknown} is no option: there are ${[...known].sort().join(", ")}`);
  }
  const request = GenerateRequest.fromPartial({ sessionId, maxTokens: unsigned("maxTokens", maxTokens) });
  for (const name of floats) {
    if (options[name] !== undefined) {
      request[name] = real(name, options[name]);
    }
  }
  for (const name of counts) {
    if (options[name] !== undefined) {
      request[name] = unsigned(name, options[name]);
    }
  }
  if (options.seed !== undefined) {
    request.seed = seedOf(options.seed);
  }
  const biases = options.logitBias ?? [];
  const entries = biases instanceof Map ? biases : Object.entries(biases).map(([id, bias]) => [Number(id), bias] as const);
  for (const [token, bias] of entries) {
    request.logitBias.push({ tokenId: unsigned("a token of logitBias", token), bias: real("logitBias", bias) });
  }
  for (const sequence of options.stopSequences ?? []) {
    const name = `stopSequences[${request.stopSequences.length}]`;
    request.stopSequences.push({ tokenIds: tokenIds(name, sequence) });
  }
  return request;
}

/** A snapshot as bytes. */
export async function bytesOf(
  snapshot: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<Uint8Array> {
  if (snapshot instanceof Uint8Array) {
    return snapshot;
  }
  const pieces: Uint8Array[] = [];
  for await (const piece of snapshot) {
    if (!(piece instanceof Uint8Array)) {
      throw new InvalidInputError(`a piece of the snapshot is ${shown(piece)}, and must be a Uint8Array`);
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

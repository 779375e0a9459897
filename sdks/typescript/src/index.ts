/**
 * Client of Kakeya: long sessions with a language model on a bounded KV cache.
 *
 * The server keeps a session's token history and a cache of fixed size, so a turn costs only its new tokens.
 * `@kakeya/runtime/tokenization` makes tokens of texts and chats, and keeps a conversation.
 */

export type { ClientOptions, Tls } from "./channel.js";
export { Client, Generation, Session } from "./client.js";
export type { RouteOptions, SessionOptions } from "./client.js";
export * from "./errors.js";
export type {
  CallOptions,
  Done,
  GenerateOptions,
  SessionInfo,
  SessionSummary,
  StateDigest,
  StopReason,
  TokenLogprobs,
} from "./types.js";

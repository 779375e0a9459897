/** What calls take and answer, as plain values. */

import { GenerateDone_StopReason } from "./generated/kakeya/v1/runtime.js";
import type { GenerateDone, GenerateResponse, GetSessionInfoResponse } from "./generated/kakeya/v1/runtime.js";
import type { GetStateDigestResponse, SessionSummary as SummaryMessage } from "./generated/kakeya/v1/session.js";

/** How long a call may take, and what gives it up. */
export interface CallOptions {
  /** Milliseconds from now; 0 is a deadline that has passed. Left out: the client's, or none. */
  readonly timeoutMs?: number;
  /** Gives the call up; it then fails with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** How tokens are drawn, as GenerateRequest of `runtime.proto` says. Left out: greedy decoding. */
export interface GenerateOptions extends CallOptions {
  /** Makes the draw repeatable: a whole number of 64 bits. */
  readonly seed?: number | bigint;
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly repetitionPenalty?: number;
  /** Biases of single tokens, by their ids. */
  readonly logitBias?: ReadonlyMap<number, number> | Readonly<Record<number, number>>;
  readonly stopSequences?: Iterable<Iterable<number>>;
  readonly topLogprobs?: number;
}

/**
 * Why a generation ended: as many tokens as asked for; an end token, which was emitted; the session was closed or the
 * server stops; the model's context is used up; a stop sequence, whose tokens were emitted.
 */
export type StopReason = "max_tokens" | "eos" | "cancelled" | "truncated" | "stop_sequence" | "unknown";

/** How a generation ended. */
export interface Done {
  readonly stopReason: StopReason;
  readonly generatedTokenCount: number;
  /** Seconds up to the first token. */
  readonly prefillDurationSeconds: number;
  /** Seconds in all. */
  readonly totalDurationSeconds: number;
}

/** What the model thought of a token that was generated: natural logarithms of probabilities. */
export interface TokenLogprobs {
  readonly tokenId: number;
  readonly logprob: number;
  /** The likeliest tokens, the likeliest first. */
  readonly top: readonly { readonly tokenId: number; readonly logprob: number }[];
}

/** What is known of a session. */
export interface SessionInfo {
  readonly historyLength: number;
  /** Bytes of keys and values in use: those of cached positions, not what the slab could hold. */
  readonly kvLiveBytes: number;
  /** Violations of INV-1 and INV-2 since the server started, over all its sessions. */
  readonly inv1Violations: number;
  readonly inv2Violations: number;
  readonly idleSeconds: number;
}

/** One live session of a list. */
export interface SessionSummary {
  readonly sessionId: string;
  readonly clientLabel: string;
  readonly historyLength: number;
  readonly kvLiveBytes: number;
  readonly idleSeconds: number;
  readonly busy: boolean;
}

/** Digests of a session's state, each SHA-256 in hex. Sessions with the same tokens have the same. */
export interface StateDigest {
  readonly historyLength: number;
  readonly historySha256: string;
  readonly kvSha256: string;
  readonly stateSha256: string;
  readonly settingsSha256: string;
}

const reasons: Record<number, StopReason> = {
  [GenerateDone_StopReason.STOP_REASON_MAX_TOKENS]: "max_tokens",
  [GenerateDone_StopReason.STOP_REASON_EOS]: "eos",
  [GenerateDone_StopReason.STOP_REASON_CANCELLED]: "cancelled",
  [GenerateDone_StopReason.STOP_REASON_TRUNCATED]: "truncated",
  [GenerateDone_StopReason.STOP_REASON_STOP_SEQUENCE]: "stop_sequence",
};

export function doneOf(message: GenerateDone): Done {
  return {
    stopReason: reasons[message.stopReason] ?? "unknown",
    generatedTokenCount: message.generatedTokenCount,
    prefillDurationSeconds: message.prefillDurationSeconds,
    totalDurationSeconds: message.totalDurationSeconds,
  };
}

export function logprobsOf(message: GenerateResponse): TokenLogprobs | undefined {
  if (message.logprobs === undefined || message.tokenId === undefined) {
    return undefined;
  }
  return { tokenId: message.tokenId, logprob: message.logprobs.logprob, top: message.logprobs.top };
}

export function infoOf(message: GetSessionInfoResponse): SessionInfo {
  return {
    historyLength: Number(message.historyLength),
    kvLiveBytes: Number(message.kvLiveBytes),
    inv1Violations: Number(message.cacheInvariantInv1Violations),
    inv2Violations: Number(message.cacheInvariantInv2Violations),
    idleSeconds: message.idleSeconds,
  };
}

export function summaryOf(message: SummaryMessage): SessionSummary {
  return {
    sessionId: message.sessionId,
    clientLabel: message.clientLabel,
    historyLength: Number(message.historyLength),
    kvLiveBytes: Number(message.kvLiveBytes),
    idleSeconds: message.idleSeconds,
    busy: message.busy,
  };
}

export function digestOf(message: GetStateDigestResponse): StateDigest {
  return { ...message, historyLength: Number(message.historyLength) };
}

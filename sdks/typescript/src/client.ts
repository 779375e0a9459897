/** The client. */

import { randomUUID } from "node:crypto";

import type { ClientReadableStream, ClientUnaryCall, Metadata, ServiceError } from "@grpc/grpc-js";

import { channelOptions, checkedKey, checkedRoute, checkedTarget, credentialsOf, DEFAULT_TARGET, metadataOf } from "./channel.js";
import type { ClientOptions } from "./channel.js";
import { ClosedClientError, fromStatus, isStatus, NotFoundError, UnavailableError } from "./errors.js";
import { RuntimeServiceClient } from "./generated/kakeya/v1/runtime.js";
import type { GenerateResponse } from "./generated/kakeya/v1/runtime.js";
import { SessionServiceClient } from "./generated/kakeya/v1/session.js";
import { append, bytesOf, CHUNK, create, deadline, generate, text, unsigned } from "./requests.js";
import { digestOf, doneOf, infoOf, logprobsOf, summaryOf } from "./types.js";
import type {
  CallOptions,
  Done,
  GenerateOptions,
  SessionInfo,
  SessionSummary,
  StateDigest,
  TokenLogprobs,
} from "./types.js";

type Callback<Answer> = (error: ServiceError | null, answer: Answer) => void;
type Cancellable = Pick<ClientUnaryCall, "cancel">;

/** How a session is opened. */
export interface SessionOptions extends CallOptions {
  /** Generations stop after one of these; without any, at maxTokens alone. */
  readonly eosTokenIds?: Iterable<number>;
  /** A name of the client's own, for the server's lists and logs. */
  readonly label?: string;
  /** What a proxy in front of several servers keeps the session's calls together by; a fresh one if it is not given. */
  readonly route?: string;
}

/** How a session that is there already is found. */
export interface RouteOptions {
  /** The session's `route`, where there is a proxy in front of several servers. */
  readonly route?: string;
}

/** A connection to `kakeya serve`. Nothing connects before the first call. */
export class Client implements AsyncDisposable {
  /** The address. */
  readonly target: string;
  /** @internal */
  readonly runtime: RuntimeServiceClient;
  /** @internal */
  readonly sessionService: SessionServiceClient;
  /** @internal */
  readonly metadata;
  readonly #key: string | undefined;
  readonly #timeoutMs: number | undefined;
  #closed = false;

  constructor(target: string = DEFAULT_TARGET, options: ClientOptions = {}) {
    this.target = checkedTarget(target);
    this.#key = checkedKey(options.key);
    this.metadata = metadataOf(this.#key);
    deadline(options.timeoutMs);
    this.#timeoutMs = options.timeoutMs;
    const channel = channelOptions(options);
    this.runtime = new RuntimeServiceClient(this.target, credentialsOf(options.tls), channel);
    this.sessionService = new SessionServiceClient(this.target, credentialsOf(options.tls), {
      ...channel,
      channelOverride: this.runtime.getChannel(),
    });
  }

  /** Opens a session. */
  async session(options: SessionOptions = {}): Promise<Session> {
    const request = create(options.label ?? "", options.eosTokenIds ?? []);
    const route = checkedRoute(options.route ?? randomUUID());
    const created = await this.unary(options, (rest, done: Callback<{ sessionId: string }>) =>
      this.runtime.createSession(request, this.routed(route), rest, done),
    );
    return new Session(this, created.sessionId, route);
  }

  /** A session that is there already, by its id. Asks nothing. */
  attach(sessionId: string, options: RouteOptions = {}): Session {
    const route = options.route === undefined ? undefined : checkedRoute(options.route);
    return new Session(this, text("sessionId", sessionId), route);
  }

  /** The live sessions of this key. */
  async sessions(options: CallOptions = {}): Promise<SessionSummary[]> {
    const listed = await this.unary(options, (rest, done: Callback<{ sessions: Parameters<typeof summaryOf>[0][] }>) =>
      this.sessionService.listSessions({}, this.metadata, rest, done),
    );
    return listed.sessions.map(summaryOf);
  }

  /** Opens a session with what `Session.snapshot` gave, of this server or of another with the same settings. */
  async restore(
    snapshot: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
    options: CallOptions & RouteOptions = {},
  ): Promise<Session> {
    // Read to its end first: an error of the iterable is then its own, and nothing has been sent.
    const bytes = await bytesOf(snapshot);
    const route = checkedRoute(options.route ?? randomUUID());
    const restored = await this.unary(options, (rest, done: Callback<{ sessionId: string }>) => {
      const call = this.sessionService.restoreSession(this.routed(route), rest, done);
      // What the server refuses half-way is told by `done`.
      call.on("error", () => undefined);
      for (let at = 0; at < bytes.length; at += CHUNK) {
        call.write({ data: Buffer.from(bytes.subarray(at, at + CHUNK)) });
      }
      call.end();
      return call;
    });
    return new Session(this, restored.sessionId, route);
  }

  /** @internal What is sent beside the calls of a session. */
  routed(route: string | undefined): Metadata {
    return metadataOf(this.#key, route);
  }

  /** Ends the connection. Sessions stay; closing again does nothing. */
  close(): void {
    this.#closed = true;
    this.runtime.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** @internal What every call is made with. */
  arguments(options: CallOptions): { deadline?: number } {
    if (this.#closed) {
      throw new ClosedClientError("this client is closed", "make a new Client, or close it later");
    }
    options.signal?.throwIfAborted();
    const end = deadline(options.timeoutMs ?? this.#timeoutMs);
    return end === undefined ? {} : { deadline: end };
  }

  /** @internal Calls, and answers with what comes of it. */
  async unary<Answer>(
    options: CallOptions,
    call: (rest: { deadline?: number }, done: Callback<Answer>) => Cancellable,
  ): Promise<Answer> {
    const rest = this.arguments(options);
    const { signal } = options;
    let stop: (() => void) | undefined;
    try {
      return await new Promise<Answer>((resolve, reject) => {
        const running = call(rest, (error, answer) => (error === null ? resolve(answer) : reject(error)));
        stop = () => running.cancel();
        signal?.addEventListener("abort", stop, { once: true });
      });
    } catch (error) {
      signal?.throwIfAborted();
      throw isStatus(error) ? fromStatus(error, this.target) : error;
    } finally {
      if (stop !== undefined) {
        signal?.removeEventListener("abort", stop);
      }
    }
  }
}

/** A session on the server. With `await using` it is closed at the end of its block. */
export class Session implements AsyncDisposable {
  readonly #client: Client;
  /** Its id, which `Client.attach` takes. */
  readonly id: string;
  /** What is sent with each of its calls for a proxy to choose a server by; keep it beside the id. */
  readonly route: string | undefined;
  readonly #metadata: Metadata;

  /** @internal */
  constructor(client: Client, id: string, route: string | undefined) {
    this.#client = client;
    this.id = id;
    this.route = route;
    this.#metadata = client.routed(route);
  }

  /** Appends tokens, all or none, and says how long the history is then. Never repeated by itself. */
  async append(tokenIds: Iterable<number>, options: CallOptions = {}): Promise<number> {
    const request = append(this.id, tokenIds);
    const { runtime } = this.#client;
    const appended = await this.#client.unary(options, (rest, done: Callback<{ historyLength: bigint }>) =>
      runtime.appendTokens(request, this.#metadata, rest, done),
    );
    return Number(appended.historyLength);
  }

  /** Begins to generate; the tokens come by `for await` over what is returned. Never repeated by itself. */
  generate(maxTokens: number, options: GenerateOptions = {}): Generation {
    const request = generate(this.id, maxTokens, options);
    const rest = this.#client.arguments(options);
    const call = this.#client.runtime.generate(request, this.#metadata, rest);
    return new Generation(call, this.#client.target, options.signal);
  }

  /** How long it is, what its cache uses, and how long it has been idle. */
  async info(options: CallOptions = {}): Promise<SessionInfo> {
    const { runtime } = this.#client;
    const info = await this.#client.unary(options, (rest, done: Callback<Parameters<typeof infoOf>[0]>) =>
      runtime.getSessionInfo({ sessionId: this.id }, this.#metadata, rest, done),
    );
    return infoOf(info);
  }

  /** Makes sessions that go on from where this one is, with the same bits. All or none. */
  async fork(count = 1, options: CallOptions = {}): Promise<Session[]> {
    const request = { sessionId: this.id, count: unsigned("count", count) };
    const { sessionService } = this.#client;
    const forked = await this.#client.unary(options, (rest, done: Callback<{ sessionIds: string[] }>) =>
      sessionService.forkSession(request, this.#metadata, rest, done),
    );
    return forked.sessionIds.map((id) => new Session(this.#client, id, this.route));
  }

  /** Its whole state, for `Client.restore`. It holds the history in plain token ids: keep it as you would that. */
  async snapshot(options: CallOptions = {}): Promise<Uint8Array> {
    const { sessionService, target } = this.#client;
    const rest = this.#client.arguments(options);
    const call = sessionService.snapshotSession({ sessionId: this.id }, this.#metadata, rest);
    const pieces: Uint8Array[] = [];
    for await (const chunk of messages<{ data: Uint8Array }>(call, target, options.signal)) {
      pieces.push(chunk.data);
    }
    return Buffer.concat(pieces);
  }

  /** Digests of its state: sessions with the same tokens have the same, wherever and however they came. */
  async digest(options: CallOptions = {}): Promise<StateDigest> {
    const { sessionService } = this.#client;
    const digest = await this.#client.unary(options, (rest, done: Callback<Parameters<typeof digestOf>[0]>) =>
      sessionService.getStateDigest({ sessionId: this.id }, this.#metadata, rest, done),
    );
    return digestOf(digest);
  }

  /** Ends the session, and says how long its history was. */
  async close(options: CallOptions = {}): Promise<number> {
    const { runtime } = this.#client;
    const closed = await this.#client.unary(options, (rest, done: Callback<{ finalHistoryLength: bigint }>) =>
      runtime.closeSession({ sessionId: this.id }, this.#metadata, rest, done),
    );
    return Number(closed.finalHistoryLength);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.close();
    } catch (error) {
      // It has ended already, or its server or client has: what the block is left with is closed either way.
      if (!(error instanceof NotFoundError || error instanceof UnavailableError || error instanceof ClosedClientError)) {
        throw error;
      }
    }
  }
}

/** The messages of a stream, which is cancelled when they are left before their end. */
async function* messages<Message>(
  call: ClientReadableStream<Message>,
  target: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Message, void, void> {
  const stop = () => call.cancel();
  signal?.addEventListener("abort", stop, { once: true });
  try {
    for await (const message of call) {
      yield message as Message;
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw isStatus(error) ? fromStatus(error, target) : error;
  } finally {
    signal?.removeEventListener("abort", stop);
    call.cancel();
  }
}

/** Cancels calls whose generation was forgotten. */
const forgotten = new FinalizationRegistry<Cancellable>((call) => call.cancel());

/**
 * The tokens of one generation, as they come: `for await (const token of session.generate(64))`.
 *
 * Leaving it, by `break`, by `cancel`, by its AbortSignal or by forgetting it, stops the work within a step. The session
 * stays usable, and its history is longer by exactly the tokens that were emitted.
 */
export class Generation implements AsyncIterableIterator<number>, AsyncDisposable {
  readonly #call: ClientReadableStream<GenerateResponse>;
  readonly #messages: AsyncGenerator<GenerateResponse, void, void>;
  #cancelled = false;
  #done: Done | undefined;
  #logprobs: TokenLogprobs | undefined;
  #dropped = 0;

  /** @internal */
  constructor(call: ClientReadableStream<GenerateResponse>, target: string, signal: AbortSignal | undefined) {
    // An error before anybody reads must not end the process; who reads gets it.
    call.on("error", () => undefined);
    this.#call = call;
    this.#messages = messages(call, target, signal);
    forgotten.register(this, call, this);
  }

  /** How it ended, once it has. */
  get done(): Done | undefined {
    return this.#done;
  }

  /** What the model thought of the latest token, where `topLogprobs` was given. */
  get logprobs(): TokenLogprobs | undefined {
    return this.#logprobs;
  }

  /** Tokens of the history that it cannot see, known with the first token. */
  get droppedTokenCount(): number {
    return this.#dropped;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<number, undefined>> {
    while (!this.#cancelled) {
      let answer: IteratorResult<GenerateResponse, void>;
      try {
        answer = await this.#messages.next();
      } catch (error) {
        if (this.#cancelled) {
          break;
        }
        throw error;
      }
      if (answer.done === true) {
        break;
      }
      const message = answer.value;
      if (message.done !== undefined) {
        this.#done = doneOf(message.done);
        forgotten.unregister(this);
      } else if (message.truncated !== undefined) {
        this.#dropped = Number(message.truncated.droppedTokenCount);
      } else if (message.tokenId !== undefined) {
        this.#logprobs = logprobsOf(message);
        return { done: false, value: message.tokenId };
      }
    }
    return { done: true, value: undefined };
  }

  /** Stops it, as `break` in a `for await` does. */
  async return(): Promise<IteratorResult<number, undefined>> {
    this.cancel();
    return { done: true, value: undefined };
  }

  /** Stops it, and iterating ends. Again, or after the end, does nothing. */
  cancel(): void {
    if (this.#done === undefined) {
      this.#cancelled = true;
      this.#call.cancel();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cancel();
  }
}

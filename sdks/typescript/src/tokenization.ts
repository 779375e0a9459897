/**
 * Tokens of texts and chats. Text never crosses the gRPC port, so these are made on the client's side.
 *
 * Opt-in: nothing else of the package needs this module. A tokenizer of `@huggingface/transformers` will do where a
 * `ChatTokenizer` is asked for; `ServerTokenizer` asks the server's HTTP port and needs nothing besides.
 */

import type { Generation, Session } from "./client.js";
import { InvalidArgumentError, InvalidInputError, ServerUnreachableError, UnauthenticatedError } from "./errors.js";
import type { Done, GenerateOptions } from "./types.js";

/** A message of a chat, as templates take them. */
export interface Message {
  readonly role: string;
  readonly content: string;
  readonly [name: string]: unknown;
}

/** What a chat template is told besides, such as `{ enable_thinking: false }` for Qwen3. */
export type Variables = Readonly<Record<string, unknown>>;

/** What the functions of this module need of a tokenizer: what those of `@huggingface/transformers` have. */
export interface ChatTokenizer {
  apply_chat_template(
    messages: Message[],
    options: { tokenize: false; add_generation_prompt: boolean; [name: string]: unknown },
  ): unknown;
  encode(text: string, options: { add_special_tokens: boolean }): ArrayLike<number> | Promise<ArrayLike<number>>;
  decode(tokenIds: number[], options?: { skip_special_tokens?: boolean }): string | Promise<string>;
}

// Stands for an answer in a template, to find where the text after it begins.
const ANSWER = "kakeya-answer-goes-here";

/** The tokens of a whole chat, in the model's own template; by default up to where the model is to answer. */
export async function tokensForChat(
  messages: readonly Message[],
  tokenizer: ChatTokenizer,
  options: { addGenerationPrompt?: boolean; variables?: Variables } = {},
): Promise<number[]> {
  return encoded(tokenizer, await rendered(messages, tokenizer, options.addGenerationPrompt ?? true, options.variables));
}

/**
 * The tokens that take a session from the end of an answer to where the model is to answer `messages`.
 *
 * `lastToken` is the session's last one, or undefined where that is not known: the end token of an answer belongs to the
 * template, so it is left out here if the answer has it already, and there if it was cut short.
 */
export async function tokensForTurn(
  messages: readonly Message[],
  tokenizer: ChatTokenizer,
  options: { lastToken?: number | undefined; variables?: Variables } = {},
): Promise<number[]> {
  const before = [
    { role: "user", content: "-" },
    { role: "assistant", content: ANSWER },
  ];
  const text = await rendered([...before, ...messages], tokenizer, true, options.variables);
  const at = text.indexOf(ANSWER);
  if (at < 0) {
    throw new InvalidInputError("the chat template leaves answers out, so a turn cannot be told from the chat before it");
  }
  const tokens = await encoded(tokenizer, text.slice(at + ANSWER.length));
  return tokens.length > 0 && tokens[0] === options.lastToken ? tokens.slice(1) : tokens;
}

/**
 * Messages as OpenAI's client has them, as chat templates take them: parts of text become one text, `developer` becomes
 * `system`, and the arguments of tool calls become values. What is not text, such as an image, is refused by name.
 */
export function fromOpenAIMessages(messages: readonly unknown[]): Message[] {
  return messages.map((message, index) => {
    const given = message as Record<string, unknown> | null;
    if (typeof given !== "object" || given === null || typeof given["role"] !== "string") {
      throw new InvalidInputError(`message ${index} is ${JSON.stringify(message)}, and must have a role`);
    }
    const plain: { role: string; content: string; [name: string]: unknown } = {
      role: given["role"] === "developer" ? "system" : given["role"],
      content: contentOf(index, given["content"]),
    };
    for (const name of ["name", "tool_call_id"]) {
      if (given[name] !== undefined && given[name] !== null) {
        plain[name] = given[name];
      }
    }
    if (Array.isArray(given["tool_calls"]) && given["tool_calls"].length > 0) {
      plain["tool_calls"] = given["tool_calls"].map((call) => toolCall(index, call));
    }
    return plain;
  });
}

function contentOf(index: number, content: unknown): string {
  if (content === undefined || content === null || typeof content === "string") {
    return content ?? "";
  }
  if (!Array.isArray(content)) {
    const given = JSON.stringify(content);
    throw new InvalidInputError(`the content of message ${index} is ${given}, and must be a text or parts of one`);
  }
  return content
    .map((part: { type?: unknown; text?: unknown } | null) => {
      if (part?.type !== "text" || typeof part.text !== "string") {
        const type = JSON.stringify(part?.type);
        throw new InvalidInputError(`message ${index} has a part of type ${type}, and only text can be sent`);
      }
      return part.text;
    })
    .join("");
}

function toolCall(index: number, call: { function?: { arguments?: unknown } }): unknown {
  const given = call.function?.arguments;
  if (typeof given !== "string") {
    return call;
  }
  try {
    return { ...call, function: { ...call.function, arguments: JSON.parse(given) as unknown } };
  } catch (error) {
    throw new InvalidInputError(`message ${index} has a tool call whose arguments are no JSON: ${(error as Error).message}`);
  }
}

async function rendered(
  messages: readonly Message[],
  tokenizer: ChatTokenizer,
  addGenerationPrompt: boolean,
  variables: Variables = {},
): Promise<string> {
  if (!Array.isArray(messages) || messages.length === 0) {
    const advice = 'give [{ role: "user", content: "..." }]';
    throw new InvalidInputError("messages must be a list of one or more messages", advice);
  }
  const options = { ...variables, tokenize: false as const, add_generation_prompt: addGenerationPrompt };
  return String(await tokenizer.apply_chat_template([...messages], options));
}

async function encoded(tokenizer: ChatTokenizer, text: string): Promise<number[]> {
  return Array.from(await tokenizer.encode(text, { add_special_tokens: false }), Number);
}

/** Tokens to text, one by one: a character is told when all its bytes are there, and only then. */
export class StreamDecoder {
  readonly #tokenizer: ChatTokenizer;
  // The tokens whose text is told, as far as the next one's depends on them, and those that wait.
  #tokens: number[] = [];
  #told = 0;

  constructor(tokenizer: ChatTokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** The text that this token completes, which may be none. */
  push(token: number): Promise<string> {
    this.#tokens.push(token);
    return this.#take(false);
  }

  /** What is left at the end, with the mark for bytes that are no character. */
  finish(): Promise<string> {
    return this.#take(true);
  }

  async #take(whole: boolean): Promise<string> {
    const before = await this.#text(this.#tokens.slice(0, this.#told));
    const text = await this.#text(this.#tokens);
    if (text.length <= before.length || (text.endsWith("\ufffd") && !whole)) {
      return "";
    }
    // The last told one stays, since some tokenizers write a word's first token differently at a text's beginning.
    this.#tokens = this.#tokens.slice(this.#told);
    this.#told = this.#tokens.length;
    return text.slice(before.length);
  }

  async #text(tokens: number[]): Promise<string> {
    return tokens.length === 0 ? "" : await this.#tokenizer.decode(tokens, { skip_special_tokens: false });
  }
}

/** The served model's own tokenizer and chat template, over the server's HTTP port (`kakeya serve --http`). */
export class ServerTokenizer implements ChatTokenizer {
  readonly url: string;
  readonly #headers: Record<string, string>;
  #facts: Promise<{ id: string; eos_token_ids: number[] }> | undefined;

  constructor(url = "http://127.0.0.1:8080", options: { key?: string } = {}) {
    if (!/^https?:\/\//.test(url)) {
      throw new InvalidInputError(`the address is ${JSON.stringify(url)}, and must begin with http:// or https://`);
    }
    this.url = url.replace(/\/+$/, "");
    const key = options.key ?? process.env["KAKEYA_API_KEY"];
    this.#headers = { "content-type": "application/json", ...(key === undefined ? {} : { authorization: `Bearer ${key}` }) };
  }

  /** What the server calls its model. */
  async model(): Promise<string> {
    return (await this.#model()).id;
  }

  /** The tokens that end an answer, for `Client.session`. */
  async eosTokenIds(): Promise<number[]> {
    return (await this.#model()).eos_token_ids;
  }

  /** The text that a chat becomes. */
  async apply_chat_template(
    messages: Message[],
    options: { add_generation_prompt?: boolean; tokenize?: boolean; [name: string]: unknown } = {},
  ): Promise<string> {
    const { add_generation_prompt = true, tokenize: _, ...variables } = options;
    const body = { messages, add_generation_prompt, chat_template_kwargs: variables };
    const { tokens } = (await this.#ask("/tokenize", body)) as { tokens: number[] };
    return this.decode(tokens);
  }

  /** The tokens of a text. The text of a control token stands for that token. */
  async encode(text: string, options: { add_special_tokens?: boolean } = {}): Promise<number[]> {
    const body = { prompt: text, add_special_tokens: options.add_special_tokens ?? false };
    return ((await this.#ask("/tokenize", body)) as { tokens: number[] }).tokens;
  }

  /** The text of tokens, with that of control tokens. */
  async decode(tokenIds: number[]): Promise<string> {
    return tokenIds.length === 0 ? "" : ((await this.#ask("/detokenize", { tokens: tokenIds })) as { prompt: string }).prompt;
  }

  #model(): Promise<{ id: string; eos_token_ids: number[] }> {
    this.#facts ??= this.#ask("/v1/models").then((answer) => {
      const [model] = (answer as { data: { id: string; eos_token_ids: number[] }[] }).data;
      return model as { id: string; eos_token_ids: number[] };
    });
    return this.#facts;
  }

  async #ask(path: string, body?: unknown): Promise<unknown> {
    const request = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
    let answer: Response;
    try {
      answer = await fetch(this.url + path, { ...request, headers: this.#headers });
    } catch (error) {
      const advice = "start the server with `--http 127.0.0.1:8080`, and give the address it prints after `http listening on`";
      throw new ServerUnreachableError(`no HTTP port of a server at ${this.url} (${String((error as Error).cause)})`, advice);
    }
    const read = (await answer.json().catch(() => ({}))) as { error?: { message?: string } };
    if (answer.ok) {
      return read;
    }
    const detail = read.error?.message ?? answer.statusText;
    if (answer.status === 401) {
      const advice = "give new ServerTokenizer(url, { key }) or set KAKEYA_API_KEY";
      throw new UnauthenticatedError(detail, advice);
    }
    throw new InvalidArgumentError(`${this.url}${path} answered ${answer.status}: ${detail}`);
  }
}

/** A conversation in one session, which must be a fresh one: each turn sends its own tokens, and no earlier ones. */
export class Conversation {
  readonly session: Session;
  readonly #tokenizer: ChatTokenizer;
  readonly #variables: Variables;
  readonly #first: Message[];
  #begun = false;
  #lastToken: number | undefined;
  #done: Done | undefined;

  constructor(session: Session, tokenizer: ChatTokenizer, options: { system?: string; variables?: Variables } = {}) {
    this.session = session;
    this.#tokenizer = tokenizer;
    this.#variables = options.variables ?? {};
    this.#first = options.system === undefined ? [] : [{ role: "system", content: options.system }];
  }

  /** How the latest answer ended; undefined before the first, and where it was left before its end. */
  get done(): Done | undefined {
    return this.#done;
  }

  /** The answer to `text`, in pieces as they come. Leaving the loop stops it, and the next turn goes on from there. */
  async *say(text: string, options: GenerateOptions & { maxTokens?: number } = {}): AsyncGenerator<string, void, void> {
    const { maxTokens = 512, ...rest } = options;
    const said = [{ role: "user", content: text }];
    const variables = this.#variables;
    const tokens = this.#begun
      ? await tokensForTurn(said, this.#tokenizer, { lastToken: this.#lastToken, variables })
      : await tokensForChat([...this.#first, ...said], this.#tokenizer, { variables });
    const { signal, timeoutMs } = rest;
    await this.session.append(tokens, { ...(signal && { signal }), ...(timeoutMs !== undefined && { timeoutMs }) });
    this.#begun = true;
    this.#lastToken = undefined;
    this.#done = undefined;
    yield* this.#answer(this.session.generate(maxTokens, rest));
  }

  async *#answer(generation: Generation): AsyncGenerator<string, void, void> {
    const decoder = new StreamDecoder(this.#tokenizer);
    let held: number | undefined;
    for await (const token of generation) {
      const piece = held === undefined ? "" : await decoder.push(held);
      if (piece !== "") {
        yield piece;
      }
      held = token;
    }
    this.#done = generation.done;
    // Known only where all of the answer was read: one that is stopped may have gone on by a few tokens.
    if (this.#done !== undefined) {
      this.#lastToken = held;
    }
    // The last token is told last, since an end token is not part of the answer.
    const last = held === undefined || this.#done?.stopReason === "eos" ? "" : await decoder.push(held);
    const rest = last + (await decoder.finish());
    if (rest !== "") {
      yield rest;
    }
  }
}

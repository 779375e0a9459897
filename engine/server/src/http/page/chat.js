
// Conversations: what was said, and the session that holds it.

const CHATS = "kakeya-chats";

/** Stands for an answer in a template, to find where the text after it begins. */
const ANSWER = "kakeya-answer-goes-here";

/** The most samples of a chart. When there are more, every second one goes. */
const SAMPLES = 240;

/** The most tokens of one request, which has at most 4 MiB. */
const PIECE = 100_000;

let ends = new Set();
let chats = [];

/** The tokens that take a session from the end of an answer to where the model is to answer again. */
async function turn(text, last) {
  const messages = [
    { role: "user", content: "-" },
    { role: "assistant", content: ANSWER },
    { role: "user", content: text },
  ];
  const whole = await server.textOf(await server.tokensOfChat(messages));
  const at = whole.indexOf(ANSWER);
  if (at < 0) throw new Trouble("template", "This model's chat template leaves answers out: begin a new chat for each question.");
  const tokens = await server.tokensOf(whole.slice(at + ANSWER.length));
  // The end token of an answer belongs to the template: the answer has it unless it was cut short.
  return tokens[0] === last ? tokens.slice(1) : tokens;
}

class Chat {
  constructor(kept = {}) {
    this.id = kept.id ?? null;
    this.system = kept.system ?? "";
    this.turns = kept.turns ?? [];
    /** Every token of the session's history that is known here. */
    this.tokens = kept.tokens ?? [];
    /** Where in them the last answer begins. */
    this.answerAt = kept.answerAt ?? 0;
    /** A turn that may have reached the session: its tokens, and what was said. Its answer was lost. */
    this.pending = kept.pending ?? null;
    /** Whether the last turn is in the session, and has no answer. */
    this.unanswered = kept.unanswered ?? false;
    this.ended = kept.ended ?? false;
    this.used = kept.used ?? Date.now();
    this.samples = kept.samples ?? [];
    this.draft = "";
    this.info = null;
    this.abort = null;
    this.reviving = false;
    this.queue = Promise.resolve();
  }

  get name() {
    const said = this.turns.find((turn) => turn.role === "user");
    return said ? said.text.slice(0, 60) : this.id ? `session ${this.id.slice(5, 13)}` : "New chat";
  }

  /** Does something that no other work on this conversation may overlap. */
  alone(work) {
    const done = this.queue.then(work);
    this.queue = done.catch(() => {});
    return done;
  }

  /** Says something, and reads the answer. `changed` is called whenever there is more to show. Answers whether it was said. */
  async say(text, settings, changed) {
    this.abort = new AbortController();
    this.used = Date.now();
    const { signal } = this.abort;
    changed();
    try {
      return await this.alone(() => this.turnOf(text, settings, signal, changed));
    } finally {
      this.abort = null;
      keep();
      changed();
    }
  }

  async turnOf(text, settings, signal, changed) {
    await this.read();
    // What is said again because nothing came of it is in the session already.
    if (!(this.unanswered && this.turns.at(-1)?.text === text)) {
      const said = { role: "user", text };
      this.turns.push(said);
      changed();
      try {
        const first = [...(this.system ? [{ role: "system", text: this.system }] : []), said];
        const tokens = this.tokens.length
          ? await turn(text, this.tokens.at(-1))
          : await server.tokensOfChat(first.map(({ role, text }) => ({ role, content: text })));
        await this.begin(signal);
        this.pending = { tokens, text };
        await this.append(tokens);
      } catch (error) {
        // It is not known to have reached the session: it can be said again.
        this.turns.pop();
        if (error.name === "AbortError") return false;
        throw error;
      }
    }
    return this.answer(settings, signal, changed);
  }

  /** The session, opened if there is none. One that is not wanted any more is not left behind. */
  async begin(signal) {
    if (!this.id) {
      const { id } = await server.create();
      if (signal.aborted) await server.close(id).catch(() => {});
      else this.id = id;
    }
    signal.throwIfAborted();
  }

  async append(tokens) {
    const { history_length: length } = await this.endedIfGone(server.append(this.id, tokens));
    if (length === this.tokens.length + tokens.length) this.appended(tokens);
    // Somebody else has said something in this session.
    else await this.read();
  }

  appended(tokens) {
    for (const token of tokens) this.tokens.push(token);
    this.answerAt = this.tokens.length;
    this.pending = null;
    this.unanswered = true;
  }

  async answer(settings, signal, changed) {
    const answer = { role: "assistant", text: "", note: "" };
    this.turns.push(answer);
    let count = 0;
    let first = 0;
    let over = false;
    try {
      for await (const event of server.generate(this.id, settings, signal)) {
        if (event.type === "truncated") {
          answer.note = `${event.dropped_token_count.toLocaleString()} earlier tokens are out of sight`;
        } else if (event.type === "token") {
          this.unanswered = false;
          this.tokens.push(event.token_id);
          answer.text += event.text;
          count += 1;
          if (count > 1) this.speed = (count - 1) / ((performance.now() - first) / 1000);
          else first = performance.now();
        } else {
          over = true;
          answer.text += event.text;
          if (event.stop_reason === "max_tokens") note(answer, "cut off at the most tokens of a reply");
          if (event.stop_reason === "truncated") note(answer, "the model's context is full: begin a new chat");
        }
        changed();
      }
    } catch (error) {
      if (error.code === "session_not_found") this.ended = true;
      note(answer, error.name === "AbortError" ? "stopped" : "broken off");
      if (error.name !== "AbortError") throw error;
    } finally {
      // A stream that was left may have had more tokens than were read, and the session has those.
      if (!over) await this.read().catch(() => {});
      if (!over && this.unanswered && answer.text === "") this.turns.splice(this.turns.indexOf(answer), 1);
    }
    return !this.unanswered;
  }

  stop() {
    this.abort?.abort();
  }

  /** Reads what the session has and is not known here. While a reply comes there is nothing to read. */
  async sync() {
    if (!this.abort) await this.alone(() => this.read());
  }

  async read() {
    if (!this.id || this.ended) return;
    const more = await this.endedIfGone(server.history(this.id, this.tokens.length));
    const { pending } = this;
    this.pending = null;
    if (!more.length) return;
    if (pending && pending.tokens.every((token, index) => more[index] === token)) {
      if (this.turns.at(-1)?.text !== pending.text || this.turns.at(-1)?.role !== "user") {
        this.turns.push({ role: "user", text: pending.text });
      }
      this.appended(more.splice(0, pending.tokens.length));
      if (!more.length) return;
    }
    for (const token of more) this.tokens.push(token);
    this.unanswered = false;
    const text = await server.textOf(this.tokens.slice(this.answerAt).filter((token) => !ends.has(token)));
    const answer = this.turns.at(-1);
    if (answer?.role === "assistant") answer.text = text;
    else this.turns.push({ role: "assistant", text, note: "" });
  }

  /** Reads what the session is now, for the gauges. */
  async look() {
    if (!this.id || this.ended) return;
    const info = await this.endedIfGone(server.info(this.id));
    this.info = info;
    this.samples.push([info.history_length, info.kv_live_bytes]);
    if (this.samples.length > SAMPLES) this.samples = this.samples.filter((_, index) => index % 2 === 0);
  }

  /** Goes on in a new session, with the history of this one. Where that fails, all is as it was. */
  async revive() {
    if (this.reviving) return;
    this.reviving = true;
    try {
      await this.alone(async () => {
        const { id } = await server.create();
        try {
          for (let at = 0; at < this.tokens.length; at += PIECE) await server.append(id, this.tokens.slice(at, at + PIECE));
        } catch (error) {
          await server.close(id).catch(() => {});
          throw error;
        }
        this.id = id;
        this.ended = false;
        this.pending = null;
      });
    } finally {
      this.reviving = false;
      keep();
    }
  }

  async close() {
    this.stop();
    await this.alone(async () => {
      if (this.id && !this.ended) {
        await server.close(this.id).catch((error) => {
          if (error.code !== "session_not_found") throw error;
        });
      }
      chats = chats.filter((chat) => chat !== this);
    });
    keep();
  }

  async endedIfGone(asked) {
    try {
      return await asked;
    } catch (error) {
      if (error.code === "session_not_found") {
        this.ended = true;
        keep();
      }
      throw error;
    }
  }
}

function note(answer, what) {
  answer.note = answer.note ? `${answer.note}; ${what}` : what;
}

/** Keeps what was said over a reload of this tab, and no longer. */
function keep() {
  const kept = chats.map(({ id, system, turns, tokens, answerAt, pending, unanswered, ended, used, samples }) => ({
    id, system, turns, tokens, answerAt, pending, unanswered, ended, used, samples,
  }));
  // The browser gives a tab some megabytes: what was not used for longest goes first.
  const oldest = [...kept].sort((one, other) => one.used - other.used);
  for (;;) {
    try {
      sessionStorage.setItem(CHATS, JSON.stringify(kept.filter((chat) => oldest.includes(chat))));
      return;
    } catch {
      if (!oldest.shift()) return;
    }
  }
}

function recall() {
  try {
    chats = JSON.parse(sessionStorage.getItem(CHATS) ?? "[]").map((kept) => new Chat(kept));
  } catch {
    chats = [];
  }
}

/** A session that another client has begun: its text as the model sees it. */
async function adopt(id) {
  const known = chats.find((chat) => chat.id === id);
  if (known) return known;
  const tokens = await server.history(id, 0);
  const text = await server.textOf(tokens);
  const chat = new Chat({ id, tokens, answerAt: tokens.length, turns: [{ role: "history", text, note: "begun by another client" }] });
  chats.push(chat);
  keep();
  return chat;
}

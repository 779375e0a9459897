
// Conversations: what was said, and the session that holds it.

const CHATS = "kakeya-chats";

/** Stands for an answer in a template, to find where the text after it begins. */
const ANSWER = "kakeya-answer-goes-here";

/** The most samples of a chart. When there are more, every second one goes. */
const SAMPLES = 240;

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
    this.ended = kept.ended ?? false;
    this.samples = kept.samples ?? [];
    this.info = null;
    this.abort = null;
  }

  get name() {
    const said = this.turns.find((turn) => turn.role === "user");
    return said ? said.text.slice(0, 60) : this.id ? `session ${this.id.slice(5, 13)}` : "New chat";
  }

  /** Says something, and reads the answer. `changed` is called whenever there is more to show. */
  async say(text, settings, changed) {
    this.abort = new AbortController();
    const { signal } = this.abort;
    const said = { role: "user", text };
    this.turns.push(said);
    changed();
    let appended = false;
    try {
      const tokens = this.tokens.length
        ? await turn(text, this.tokens.at(-1))
        : await server.tokensOfChat([...(this.system ? [{ role: "system", content: this.system }] : []), said].map(asMessage));
      signal.throwIfAborted();
      if (!this.id) this.id = (await server.create()).id;
      await this.append(tokens);
      appended = true;
      await this.answer(settings, signal, changed);
    } catch (error) {
      // Nothing of it has reached the session: it can be said again.
      if (!appended) this.turns.pop();
      if (error.name === "AbortError") return appended;
      throw error;
    } finally {
      this.abort = null;
      keep();
      changed();
    }
    return true;
  }

  async append(tokens) {
    await this.endedIfGone(server.append(this.id, tokens));
    this.tokens.push(...tokens);
    this.answerAt = this.tokens.length;
  }

  async answer(settings, signal, changed) {
    const answer = { role: "assistant", text: "", note: "" };
    this.turns.push(answer);
    const began = performance.now();
    let count = 0;
    let over = false;
    try {
      for await (const event of server.generate(this.id, settings, signal)) {
        if (event.type === "truncated") {
          answer.note = `${event.dropped_token_count.toLocaleString()} earlier tokens are out of sight`;
        } else if (event.type === "token") {
          this.tokens.push(event.token_id);
          answer.text += event.text;
          count += 1;
          if (count > 1) this.speed = (count - 1) / ((performance.now() - this.first) / 1000);
          else this.first = performance.now();
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
      this.took = performance.now() - began;
      // A stream that was left may have had more tokens than were read, and the session has those.
      if (!over) await this.sync().catch(() => {});
    }
  }

  stop() {
    this.abort?.abort();
  }

  /** Reads what the session has and is not known here. */
  async sync() {
    if (!this.id || this.ended) return;
    const more = await this.endedIfGone(server.history(this.id, this.tokens.length));
    if (!more.length) return;
    this.tokens.push(...more);
    const answer = this.turns.at(-1);
    const text = await server.textOf(this.tokens.slice(this.answerAt).filter((token) => !ends.has(token)));
    if (answer?.role === "assistant") answer.text = text;
    else this.turns.push({ role: "assistant", text });
  }

  /** Reads what the session is now, for the gauges. */
  async look() {
    if (!this.id || this.ended) return;
    const info = await this.endedIfGone(server.info(this.id));
    this.info = info;
    this.samples.push([info.history_length, info.kv_live_bytes]);
    if (this.samples.length > SAMPLES) this.samples = this.samples.filter((_, index) => index % 2 === 0);
  }

  /** Goes on in a new session, with the history of this one. */
  async revive() {
    this.id = (await server.create()).id;
    this.ended = false;
    const tokens = this.tokens;
    if (tokens.length) await this.endedIfGone(server.append(this.id, tokens));
    keep();
  }

  async close() {
    if (this.id && !this.ended) {
      await server.close(this.id).catch((error) => {
        if (error.code !== "session_not_found") throw error;
      });
    }
    chats = chats.filter((chat) => chat !== this);
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

const asMessage = ({ role, text, content }) => ({ role, content: content ?? text });

function note(answer, what) {
  answer.note = answer.note ? `${answer.note}; ${what}` : what;
}

/** Keeps what was said over a reload of this tab, and no longer. */
function keep() {
  const kept = chats.map(({ id, system, turns, tokens, answerAt, ended, samples }) => ({
    id, system, turns, tokens, answerAt, ended, samples,
  }));
  for (;;) {
    try {
      sessionStorage.setItem(CHATS, JSON.stringify(kept));
      return;
    } catch {
      // The browser gives a tab some megabytes: the oldest goes first.
      if (!kept.shift()) return;
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
  const chat = new Chat({ id });
  chat.tokens = await server.history(id, 0);
  chat.answerAt = chat.tokens.length;
  chat.turns = [{ role: "history", text: await server.textOf(chat.tokens), note: "begun by another client" }];
  chats.push(chat);
  keep();
  return chat;
}

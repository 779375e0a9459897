
// The server's routes, and what goes wrong on the way to them.

const KEY = "kakeya-key";

/** What went wrong, in words for a person. `code` is the server's, or `unreachable` or `cut`. */
class Trouble extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const key = () => sessionStorage.getItem(KEY);

/** Asks the server. Resolves to the response if it is a success. */
async function ask(method, path, body, signal) {
  const headers = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  if (key()) headers.authorization = `Bearer ${key()}`;
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body), cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("unreachable", `The server at ${location.host} does not answer. Is \`kakeya serve\` running?`);
  }
  if (response.ok) return response;
  const text = await response.text().catch(() => "");
  let error = {};
  try {
    error = JSON.parse(text).error ?? {};
  } catch {
    // Something between here and the server has answered.
  }
  throw new Trouble(error.code ?? String(response.status), error.message ?? `${response.status} ${text.slice(0, 200)}`);
}

const json = async (method, path, body) => (await ask(method, path, body)).json();

/** The events of a stream, as objects. Leaving the loop, or aborting, ends the stream. */
async function* events(path, body, signal) {
  const response = await ask("POST", path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        if (error.name === "AbortError") throw error;
        throw new Trouble("cut", "The connection broke in the middle of the reply.");
      });
      if (done) throw new Trouble("cut", "The reply ended without its end.");
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: ")) continue;
        const data = line.slice("data: ".length);
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new Trouble(event.error.code ?? "failed", event.error.message);
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const server = {
  models: async () => (await json("GET", "/v1/models")).data[0],
  list: async () => (await json("GET", "/v1/sessions")).data,
  create: () => json("POST", "/v1/sessions", { label: "page" }),
  info: (id) => json("GET", `/v1/sessions/${id}`),
  close: (id) => json("DELETE", `/v1/sessions/${id}`),
  append: (id, tokens) => json("POST", `/v1/sessions/${id}/tokens`, { tokens }),
  history: async (id, from) => {
    const all = [];
    for (let more = [0]; more.length; ) {
      more = (await json("GET", `/v1/sessions/${id}/tokens?from=${from + all.length}`)).tokens;
      for (const token of more) all.push(token);
    }
    return all;
  },
  generate: (id, settings, signal) => events(`/v1/sessions/${id}/generate`, settings, signal),
  tokensOf: async (prompt) => (await json("POST", "/tokenize", { prompt, add_special_tokens: false })).tokens,
  tokensOfChat: async (messages) => (await json("POST", "/tokenize", { messages })).tokens,
  textOf: async (tokens) => {
    let text = "";
    for (let at = 0; at < tokens.length; at += PIECE) {
      text += (await json("POST", "/detokenize", { tokens: tokens.slice(at, at + PIECE) })).prompt;
    }
    return text;
  },
};

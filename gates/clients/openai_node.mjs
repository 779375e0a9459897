// What the official `openai` npm package makes of a server: one named check at a time.
//
//     OPENAI_NODE=FOLDER node openai_node.mjs BASE_URL MODEL CHECK
//
// FOLDER is where npm has put the package. Ends with 0 when the check holds, and with a stack where it does not. `--list`
// prints the checks.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const OpenAI = createRequire(join(process.env.OPENAI_NODE ?? ".", "package.json"))("openai");

const CHAT = [
  { role: "system", content: "You answer in one short sentence." },
  { role: "user", content: "What is the capital of France?" },
];
// Greedy, so that answers can be compared.
const GREEDY = { temperature: 0, max_tokens: 24 };

/** Clients of one server, and the model it serves. */
class Server {
  constructor(baseURL, model) {
    this.model = model;
    this.client = new OpenAI({ baseURL, apiKey: "unused", timeout: 120_000, maxRetries: 0 });
  }

  chat(settings = {}, options = {}) {
    const body = { model: this.model, messages: CHAT, ...GREEDY, ...settings };
    return this.client.chat.completions.create(body, options);
  }
}

/** The text, the reason and the usage of a chat that comes in chunks. */
async function joined(stream) {
  let text = "";
  let usage = null;
  const reasons = [];
  for await (const chunk of stream) {
    assert.equal(chunk.object, "chat.completion.chunk");
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      text += choice.delta.content ?? "";
      if (choice.finish_reason) reasons.push(choice.finish_reason);
    }
  }
  assert.equal(reasons.length, 1);
  return { text, reason: reasons[0], usage };
}

/** The error of a call that must be refused with it. */
async function refused(call, error, { param, code } = {}) {
  const found = await call().then(
    () => assert.fail(`no ${error.name}`),
    (raised) => raised,
  );
  assert.equal(found.constructor, error, String(found));
  if (param !== undefined) assert.equal(found.param, param);
  if (code !== undefined) assert.equal(found.code, code);
  assert.ok(found.error.message && found.type, "OpenAI's envelope");
  return found;
}

const CHECKS = {
  async models(server) {
    const listed = [];
    for await (const model of server.client.models.list()) listed.push(model);
    assert.deepEqual(listed.map((model) => [model.id, model.object]), [[server.model, "model"]]);
    assert.deepEqual(await server.client.models.retrieve(server.model), listed[0]);
    const other = () => server.client.models.retrieve("another");
    await refused(other, OpenAI.NotFoundError, { code: "model_not_found" });
  },

  async streaming_equals_whole(server) {
    const whole = await server.chat();
    assert.equal(whole.object, "chat.completion");
    assert.match(whole.choices[0].message.content, /Paris/);
    const stream = await server.chat({ stream: true, stream_options: { include_usage: true } });
    const { text, reason, usage } = await joined(stream);
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(reason, whole.choices[0].finish_reason);
    assert.deepEqual(
      [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens],
      [whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens],
    );
  },

  async the_stream_helper(server) {
    const body = { model: server.model, messages: CHAT, ...GREEDY };
    const stream = server.client.chat.completions.stream(body);
    let text = "";
    stream.on("content", (delta) => (text += delta));
    const last = await stream.finalChatCompletion();
    assert.equal(text, last.choices[0].message.content);
    assert.equal(text, (await server.chat()).choices[0].message.content);
  },

  async an_aborted_stream_ends_and_the_server_goes_on(server) {
    const endless = { stream: true, max_tokens: 100_000, temperature: 1, seed: 1 };
    const stream = await server.chat(endless);
    let seen = 0;
    for await (const _ of stream) {
      seen += 1;
      if (seen === 3) stream.controller.abort();
    }
    assert.ok(seen >= 3);
    const controller = new AbortController();
    const call = server.chat({ max_tokens: 100_000 }, { signal: controller.signal });
    setTimeout(() => controller.abort(), 50);
    await assert.rejects(call, OpenAI.APIUserAbortError);
    assert.match((await server.chat()).choices[0].message.content, /Paris/);
  },

  async completions(server) {
    const body = { model: server.model, prompt: "The capital of France is", ...GREEDY };
    const whole = await server.client.completions.create(body);
    let text = "";
    for await (const chunk of await server.client.completions.create({ ...body, stream: true })) {
      text += chunk.choices[0]?.text ?? "";
    }
    assert.equal(text, whole.choices[0].text);
  },

  async errors(server) {
    const bad = (settings) => () => server.chat(settings);
    await refused(bad({ temperature: 3 }), OpenAI.BadRequestError, { param: "temperature" });
    await refused(bad({ messages: [] }), OpenAI.BadRequestError, { param: "messages" });
    await refused(bad({ model: "gpt-4" }), OpenAI.NotFoundError, { code: "model_not_found" });
  },
};

const [baseURL, model, name] = process.argv.slice(2);
if (baseURL === "--list") {
  console.log(Object.keys(CHECKS).join("\n"));
} else {
  await CHECKS[name](new Server(baseURL, model));
}

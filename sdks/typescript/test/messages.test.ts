// Messages, which need no server.
import { expect, test } from "vitest";

import { ServerUnreachableError } from "../src/index.js";
import { fromOpenAIMessages, ServerTokenizer, tokensForChat } from "../src/tokenization.js";
import { thrown } from "./given.js";

test("OpenAI's messages become plain ones", () => {
  const call = { id: "c", type: "function", function: { name: "f", arguments: '{"a": 1}' } };
  const plain = fromOpenAIMessages([
    { role: "developer", content: "Be brief." },
    { role: "user", content: [{ type: "text", text: "one " }, { type: "text", text: "two" }] },
    { role: "assistant", content: null, tool_calls: [call] },
    { role: "tool", tool_call_id: "c", content: "3" },
  ]);
  expect(plain).toEqual([
    { role: "system", content: "Be brief." },
    { role: "user", content: "one two" },
    { role: "assistant", content: "", tool_calls: [{ ...call, function: { name: "f", arguments: { a: 1 } } }] },
    { role: "tool", content: "3", tool_call_id: "c" },
  ]);
});

test("messages that cannot be sent are named", async () => {
  for (const [message, said] of [
    ["hello", 'message 0 is "hello", and must have a role'],
    [{ content: "a" }, "must have a role"],
    [{ role: "user", content: [{ type: "image_url" }] }, 'a part of type "image_url", and only text'],
    [{ role: "user", content: 7 }, "content of message 0 is 7"],
    [{ role: "assistant", tool_calls: [{ function: { name: "f", arguments: "{" } }] }, "arguments are no JSON"],
  ] as const) {
    expect((await thrown(() => fromOpenAIMessages([message]))).message).toContain(said);
  }
});

test("no messages are refused before anybody is asked", async () => {
  const nobody = new ServerTokenizer("http://127.0.0.1:1");
  expect((await thrown(() => tokensForChat([], nobody))).message).toContain("one or more messages");
  const error = await thrown(() => tokensForChat([{ role: "user", content: "a" }], nobody));
  expect(error).toBeInstanceOf(ServerUnreachableError);
  expect(error.message).toContain("start the server with `--http");
  expect((await thrown(() => new ServerTokenizer("127.0.0.1:8080"))).message).toContain("must begin with http");
});

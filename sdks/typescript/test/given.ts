/** Servers that the tests speak to. Suite `sdk` of the gates starts them, and says where they are in the environment. */

import { connect } from "node:net";

import { afterEach } from "vitest";

import { Client } from "../src/index.js";
import { ServerTokenizer } from "../src/tokenization.js";

export function given(name: string): string {
  const value = process.env[name];
  if (value === undefined) {
    const command = "cargo test -p kakeya-gates --test suites -- sdk::typescript";
    throw new Error(`${name} is not set: run these tests with \`${command}\``);
  }
  return value;
}

delete process.env["KAKEYA_API_KEY"];

const open: Client[] = [];
afterEach(() => open.splice(0).forEach((client) => client.close()));

/** A client that is closed after its test. */
export function client(...given: ConstructorParameters<typeof Client>): Client {
  const made = new Client(...given);
  open.push(made);
  return made;
}

/** A client of the server with the real model, of 4 sessions and a history of at most 3000 tokens. */
export const real = (): Client => client(given("KAKEYA_TEST_SERVER"), { timeoutMs: 80_000 });

/** The real model's own. */
export const tokenizer = (): ServerTokenizer => new ServerTokenizer(given("KAKEYA_TEST_HTTP"));

export const SESSION = "sess-00000000000000000000000000000007";

/** Cuts the real server off and starts another one at its address. */
export function restart(): Promise<void> {
  const [host, port] = given("KAKEYA_TEST_CONTROL").split(":");
  return new Promise((resolve, reject) => {
    const control = connect(Number(port), host, () => control.write("restart\n"));
    control.on("error", reject);
    control.on("data", (data) => {
      control.end();
      return String(data) === "done\n" ? resolve() : reject(new Error(String(data)));
    });
  });
}

export const sleep = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** What is thrown. */
export async function thrown(what: () => unknown): Promise<Error> {
  try {
    await what();
  } catch (error) {
    return error as Error;
  }
  throw new Error("nothing was thrown");
}

export async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const all: Item[] = [];
  for await (const item of items) {
    all.push(item);
  }
  return all;
}

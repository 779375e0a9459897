// A chat with Qwen3, without thinking aloud.
//   kakeya serve --http 127.0.0.1:8080 --model-file Qwen3-0.6B
import { Client } from "@kakeya/runtime";
import { Conversation, ServerTokenizer } from "@kakeya/runtime/tokenization";

const tokenizer = new ServerTokenizer("http://127.0.0.1:8080");
const client = new Client("127.0.0.1:50051");
const session = await client.session({ eosTokenIds: await tokenizer.eosTokenIds() });
const conversation = new Conversation(session, tokenizer, { variables: { enable_thinking: false } });
const options = { maxTokens: 400, temperature: 0.6, topP: 0.95, topK: 20 };
for await (const piece of conversation.say("What is 17 times 3?", options)) process.stdout.write(piece);
console.log();
await session.close();
client.close();

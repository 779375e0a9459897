// A chat with a Gemma, which has no system role: what it is told first belongs to the first question.
//   kakeya serve --http 127.0.0.1:8080 --model-file gemma-3-270m-it.gguf
import { Client } from "@kakeya/runtime";
import { Conversation, ServerTokenizer } from "@kakeya/runtime/tokenization";

const tokenizer = new ServerTokenizer("http://127.0.0.1:8080");
const client = new Client("127.0.0.1:50051");
const session = await client.session({ eosTokenIds: await tokenizer.eosTokenIds() });
const conversation = new Conversation(session, tokenizer);
// Gemma's own advice for drawing.
const options = { maxTokens: 80, temperature: 1.0, topP: 0.95, topK: 64 };
const question = "Answer in one line. What is rain?";
for await (const piece of conversation.say(question, options)) process.stdout.write(piece);
console.log();
await session.close();
client.close();

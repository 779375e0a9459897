// A chat of three turns in one session, with the model that the server has: SmolLM2 unless it is told otherwise.
//   kakeya serve --http 127.0.0.1:8080
import { Client } from "@kakeya/runtime";
import { Conversation, ServerTokenizer } from "@kakeya/runtime/tokenization";

const tokenizer = new ServerTokenizer("http://127.0.0.1:8080");
const client = new Client("127.0.0.1:50051");
const session = await client.session({ eosTokenIds: await tokenizer.eosTokenIds() });
const conversation = new Conversation(session, tokenizer);
for (const question of ["What is the capital of France?", "And of Italy?", "Which one is larger?"]) {
  console.log(">", question);
  for await (const piece of conversation.say(question, { maxTokens: 80 })) process.stdout.write(piece);
  console.log(`\n  [${(await session.info()).historyLength} tokens]`);
}
await session.close();
client.close();

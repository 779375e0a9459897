"""A chat of three turns in one session.

kakeya serve --http 127.0.0.1:8080                                      # SmolLM2
kakeya serve --http 127.0.0.1:8080 --model-file gemma-3-270m-it.gguf    # Gemma, or any other with a chat template
"""

from kakeya import Client
from kakeya.chat import Conversation
from kakeya.tokenization import ServerTokenizer

tokenizer = ServerTokenizer("http://127.0.0.1:8080")
with Client("127.0.0.1:50051") as client, client.session(eos_token_ids=tokenizer.eos_token_ids) as session:
    conversation = Conversation(session, tokenizer)
    for question in ("What is the capital of France?", "And of Italy?", "Which one is larger?"):
        print(">", question)
        for piece in conversation.say(question, max_tokens=80):
            print(piece, end="", flush=True)
        print(f"\n  [{session.info().history_length} tokens]")

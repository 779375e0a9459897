"""A chat with a Gemma, which has no system role: what it is told first belongs to the first question.

kakeya serve --http 127.0.0.1:8080 --model-file gemma-3-270m-it.gguf
"""

from kakeya import Client
from kakeya.chat import Conversation
from kakeya.tokenization import ServerTokenizer

tokenizer = ServerTokenizer("http://127.0.0.1:8080")
with Client("127.0.0.1:50051") as client, client.session(eos_token_ids=tokenizer.eos_token_ids) as session:
    conversation = Conversation(session, tokenizer)
    # Gemma's own advice for drawing.
    for piece in conversation.say("Answer in one line. What is rain?", max_tokens=80, top_k=64, top_p=0.95, temperature=1.0):
        print(piece, end="", flush=True)
    print()

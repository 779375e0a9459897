"""A chat with Qwen3, with and without thinking aloud. Its tokenizer is read from the model's own files here.

kakeya serve --model-file Qwen3-0.6B
pip install 'kakeya[tokenizers]' && python chat_qwen3.py Qwen3-0.6B
"""

import sys

from kakeya import Client
from kakeya.chat import Conversation
from kakeya.tokenization import FileTokenizer

tokenizer = FileTokenizer(sys.argv[1])
with Client("127.0.0.1:50051") as client:
    for thinking in (False, True):
        with client.session(eos_token_ids=tokenizer.eos_token_ids) as session:
            conversation = Conversation(session, tokenizer, enable_thinking=thinking)
            for piece in conversation.say("What is 17 times 3?", max_tokens=400, temperature=0.6, top_p=0.95, top_k=20):
                print(piece, end="", flush=True)
            print("\n---")

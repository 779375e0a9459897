#!/usr/bin/env python3
"""How fast PyTorch is on a GGUF file's weights, dequantised to f32 by transformers: tokens a second of one prompt, and
of decoding after it.

    pip install torch transformers gguf accelerate
    transformers_speed.py --model M.gguf [--prompt 512] [--decode 64] [--threads 2]
"""

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    model = AutoModelForCausalLM.from_pretrained(
        str(arguments.model.parent), gguf_file=arguments.model.name, dtype=torch.float32
    ).eval()
    prompt = torch.tensor([[1000 + i * 7919 % 40000 for i in range(arguments.prompt)]])
    with torch.inference_mode():
        # The first round warms up.
        for _ in range(1 + arguments.rounds):
            started = time.perf_counter()
            out = model(prompt, use_cache=True, logits_to_keep=1)
            prefill = arguments.prompt / (time.perf_counter() - started)
            started = time.perf_counter()
            for _ in range(arguments.decode):
                token = out.logits[:, -1].argmax(-1, keepdim=True)
                out = model(token, past_key_values=out.past_key_values, use_cache=True)
            decode = arguments.decode / (time.perf_counter() - started)
            print(json.dumps({"prefill_tokens_per_second": round(prefill, 1), "decode_tokens_per_second": round(decode, 1)}))


if __name__ == "__main__":
    main()

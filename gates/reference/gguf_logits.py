#!/usr/bin/env python3
"""Logits of `transformers` for a GGUF file, dequantised to float32.

    pip install torch transformers gguf accelerate
    gguf_logits.py --model gemma-3-270m-q4_k_m.gguf --tokens 2,651,1156,... --out gates/goldens/reference-gemma3-270m.json
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
import transformers

SAMPLES = 12  # logits kept for each position
SEED = 20240229  # of the ids that are kept


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tokens", type=lambda text: [int(part) for part in text.split(",")], required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        arguments.model.parent, gguf_file=arguments.model.name, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        logits = model.eval()(torch.tensor([arguments.tokens])).logits[0]
    generator = torch.Generator().manual_seed(SEED)
    sampled = sorted(torch.randperm(logits.shape[1], generator=generator)[:SAMPLES].tolist())
    golden = {
        "made_by": f"gates/reference/gguf_logits.py, transformers {transformers.__version__}, torch {torch.__version__}",
        "model_sha256": hashlib.sha256(arguments.model.read_bytes()).hexdigest(),
        "tokens": arguments.tokens,
        "sampled": sampled,
        "logits": [[float(f"{row[i]:.7g}") for i in sampled] for row in logits.tolist()],
        "largest": logits.argmax(-1).tolist(),
    }
    arguments.out.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()

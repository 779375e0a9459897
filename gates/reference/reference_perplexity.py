#!/usr/bin/env python3
"""The perplexity of a text as llama-perplexity defines it, from the float64 reference logits.

The tokens (no token added before or after) are cut into consecutive chunks of `--context`; what is left
over is not used. Each chunk starts from an empty cache; where the file asks for a beginning-of-sequence
token, it replaces the chunk's first token. Position i predicts token i + 1, and of a chunk of C tokens the
positions from C / 2 to C - 2 are scored. The perplexity is the exponential of the mean negative
log-probability over all scored positions of all chunks.

    pip install numpy gguf
    reference_perplexity.py --model M.gguf --text perplexity.txt --context 512 --chunks 16 \\
        --llama-tokenize BIN/llama-tokenize
"""

import argparse

import numpy as np
from reference_forward import Llama, tokenize


def chunk_scores(model, chunk, begin):
    """Negative log-probabilities of the scored positions of one chunk."""
    read = list(chunk) if begin is None else [begin, *chunk[1:]]
    positions = np.arange(len(chunk) // 2, len(chunk) - 1)
    logits = model.logits(read)[positions]
    peak = logits.max(axis=-1)
    log_sum = np.log(np.exp(logits - peak[:, None]).sum(axis=-1)) + peak
    return log_sum - logits[np.arange(len(positions)), np.asarray(chunk)[positions + 1]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=1)
    parser.add_argument("--llama-tokenize", required=True, help="the llama-tokenize binary of llama.cpp")
    arguments = parser.parse_args()

    model = Llama(arguments.model)
    adds = "tokenizer.ggml.add_bos_token" in model.fields and model.field("tokenizer.ggml.add_bos_token")
    begin = model.field("tokenizer.ggml.bos_token_id") if adds else None
    tokens = tokenize(arguments.llama_tokenize, arguments.model, arguments.text)
    scores = []
    for chunk in range(min(arguments.chunks, len(tokens) // arguments.context)):
        start = chunk * arguments.context
        scores.extend(chunk_scores(model, tokens[start : start + arguments.context], begin))
        print(f"[{chunk + 1}] {np.exp(np.mean(scores)):.4f}", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Logits of `transformers` for checkpoints whose weights are pseudo-random numbers of a tensor's name.

The weights of a checkpoint follow from its list of tensors by arithmetic that the gates repeat, bit for bit
(gates/src/checkpoint.rs), so nothing but the configuration, the list and the logits is kept. Weights are rounded to the
checkpoint's type, and the model runs on them in float32, on the CPU, with eager attention.

    pip install torch transformers numpy
    random_checkpoints.py --out gates/goldens/reference-checkpoints.json
    random_checkpoints.py --real --out gates/goldens/reference-qwen3-0.6b-shape.json
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
import transformers

POSITIONS = 64
SAMPLES = 24  # logits kept for each position
REAL_POSITIONS = 24

SMALL = dict(
    vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=32, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=False,
    bos_token_id=1, eos_token_id=2, pad_token_id=0,
)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32)
LINEAR = dict(rope_type="linear", rope_theta=10000.0, factor=4.0)

# Name: class, type of the weights, shards, what differs from SMALL.
CHECKPOINTS = {
    "llama-untied": ("Llama", "F32", 1, {}),
    "llama-tied-biases": ("Llama", "F16", 1, dict(attention_bias=True, tie_word_embeddings=True)),
    "llama-grouped-sharded": ("Llama", "BF16", 3, dict(hidden_size=128, num_attention_heads=4, num_key_value_heads=2, head_dim=64)),
    "llama-linear": ("Llama", "F32", 1, dict(rope_parameters=LINEAR)),
    "llama-llama3": ("Llama", "F32", 1, dict(rope_parameters=LLAMA3)),
    "llama-yarn": ("Llama", "F32", 1, dict(rope_parameters=YARN)),
    "qwen2-biases": ("Qwen2", "BF16", 1, dict(tie_word_embeddings=True, hidden_size=96, num_attention_heads=3,
                                              num_key_value_heads=1, head_dim=None)),
    "qwen3-tied": ("Qwen3", "BF16", 1, dict(tie_word_embeddings=True, hidden_size=96, num_attention_heads=6,
                                            num_key_value_heads=2, head_dim=64)),
    "qwen3-untied": ("Qwen3", "F32", 2, dict(num_attention_heads=4, num_key_value_heads=4)),
    "gemma3": ("Gemma3", "BF16", 1, dict(hidden_size=96, num_hidden_layers=7, num_attention_heads=4, head_dim=64,
                                         query_pre_attn_scalar=48, sliding_window=24, tie_word_embeddings=True)),
}
REAL = ("Qwen3", "BF16", 1, dict(
    vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
    num_key_value_heads=8, head_dim=128, max_position_embeddings=40960, rms_norm_eps=1e-6, tie_word_embeddings=True,
    rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
))


def splitmix(seed, count):
    """SplitMix64 (Steele, Lea and Flood 2014) of a counter."""
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def seed_of(name):
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def weights(name, shape, gemma):
    """Numbers from -1 to 1 in steps of 2^-23, times what keeps a model of such weights in bounds."""
    unit = (splitmix(seed_of(name), int(np.prod(shape))) >> np.uint64(40)).astype(np.float32)
    unit = unit * np.float32(2.0**-23) - np.float32(1.0)
    if name.endswith("norm.weight"):
        values = unit * np.float32(0.1)
        if not gemma:
            values = values + np.float32(1.0)
    elif name.endswith(".bias"):
        values = unit * np.float32(0.1)
    elif name.endswith("embed_tokens.weight"):
        values = unit * np.float32(0.25)
    else:
        values = unit * np.float32(np.sqrt(3.0 / shape[-1]))
    return values.reshape(shape)


def tokens(name, count, vocabulary):
    return [int(value) for value in splitmix(seed_of(name + " tokens"), count) % np.uint64(vocabulary)]


def make(name, row, positions):
    family, dtype, shards, changes = row
    settings = {**SMALL, **changes}
    if settings["head_dim"] is None:
        del settings["head_dim"]
    kind = "Gemma3Text" if family == "Gemma3" else family
    config = getattr(transformers, f"{kind}Config")(**settings)
    config._attn_implementation = "eager"
    with torch.device("meta"):
        model = getattr(transformers, f"{family}ForCausalLM")(config)
    model = model.to_empty(device="cpu").to(torch.float32).eval()
    state = model.state_dict()
    if config.tie_word_embeddings:
        state.pop("lm_head.weight")
    kinds = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    with torch.no_grad():
        for tensor, place in state.items():
            values = torch.from_numpy(weights(tensor, tuple(place.shape), family == "Gemma3"))
            place.copy_(values.to(kinds[dtype]).to(torch.float32))
        model.tie_weights()
        # Buffers are not in the checkpoint.
        for module in model.modules():
            if hasattr(module, "rope_init_fn") or type(module).__name__.endswith("RotaryEmbedding"):
                module.__init__(config)
            if type(module).__name__.endswith("ScaledWordEmbedding"):
                module.embed_scale.fill_(config.hidden_size**0.5)
        ids = tokens(name, positions, config.vocab_size)
        logits = model(torch.tensor([ids])).logits[0]
    written = json.loads(config.to_json_string(use_diff=False))
    written["architectures"] = [type(model).__name__]
    sampled = sorted(int(i) for i in splitmix(seed_of(name + " samples"), SAMPLES) % np.uint64(config.vocab_size))
    return {
        "config": {key: value for key, value in written.items() if value is not None},
        "dtype": dtype,
        "shards": shards,
        "tensors": {tensor: list(place.shape) for tensor, place in state.items()},
        "tokens": ids,
        "sampled": sampled,
        "logits": [[float(f"{row[i]:.7g}") for i in sampled] for row in logits.tolist()],
        "largest": int(logits[-1].argmax()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true", help="the shape of Qwen3-0.6B instead of small ones")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.real:
        made = {"qwen3-0.6b-shape": make("qwen3-0.6b-shape", REAL, REAL_POSITIONS)}
    else:
        made = {name: make(name, row, POSITIONS) for name, row in CHECKPOINTS.items()}
    golden = {
        "made_by": f"gates/reference/random_checkpoints.py, transformers {transformers.__version__}, torch {torch.__version__}",
        "checkpoints": made,
    }
    arguments.out.write_text(json.dumps(golden, indent=None, separators=(",", ":")).replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()

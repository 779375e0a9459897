#!/usr/bin/env python3
"""An independent forward pass of a llama-architecture GGUF, in double precision.

It shares nothing with the engine: weights are read and dequantised by the `gguf` package, arithmetic is
numpy's float64, attention is the full causal softmax over all positions at once. It is slow and plain on
purpose. The engine's logits are compared with its golden output.

    pip install numpy gguf
    reference_forward.py --model M.gguf --text reference.txt --positions 500 \\
        --llama-tokenize BIN/llama-tokenize --out reference-smollm2-135m.json
"""

import argparse
import hashlib
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np

SAMPLES = 16  # logits kept for each position
SEED = 20240229  # of the vocabulary indices that are kept


class Llama:
    """Weights and hyperparameters of one GGUF file, dequantised to float64 when used."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.fields = reader.fields
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        if self.field("general.architecture") != "llama":
            raise SystemExit(f"{path}: not a llama-architecture file")
        self.layers = self.field("llama.block_count")
        self.heads = self.field("llama.attention.head_count")
        self.kv_heads = self.field("llama.attention.head_count_kv")
        self.hidden = self.field("llama.embedding_length")
        self.head_dim = self.field("llama.rope.dimension_count")
        self.epsilon = self.field("llama.attention.layer_norm_rms_epsilon")
        self.rope_base = self.field("llama.rope.freq_base")
        if self.head_dim * self.heads != self.hidden:
            raise SystemExit(f"{path}: rotary dimensions do not cover the heads")

    def field(self, key):
        return self.fields[key].contents()

    def weight(self, name):
        """A tensor as float64, rows by columns as the file's rows lie."""
        tensor = self.tensors[name]
        return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)

    def norm(self, x, name):
        """RMSNorm (Zhang and Sennrich 2019)."""
        scale = 1.0 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        return x * scale * self.weight(name)

    def rotate(self, x):
        """Rotary embedding (Su et al. 2021) over adjacent pairs (2i, 2i+1); x is positions, heads, dims."""
        positions = np.arange(x.shape[0], dtype=np.float64)
        pairs = np.arange(0, self.head_dim, 2, dtype=np.float64)
        angles = positions[:, None] * self.rope_base ** (-pairs / self.head_dim)
        cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = np.empty_like(x)
        turned[..., 0::2] = even * cos - odd * sin
        turned[..., 1::2] = even * sin + odd * cos
        return turned

    def attention(self, x, layer):
        """Grouped-query causal attention: query head h reads key/value head h // group."""
        count, group = x.shape[0], self.heads // self.kv_heads
        block = f"blk.{layer}.attn_"
        q = (x @ self.weight(block + "q.weight").T).reshape(count, self.heads, self.head_dim)
        k = (x @ self.weight(block + "k.weight").T).reshape(count, self.kv_heads, self.head_dim)
        v = (x @ self.weight(block + "v.weight").T).reshape(count, self.kv_heads, self.head_dim)
        q, k = self.rotate(q), self.rotate(k)
        hidden_from = np.triu(np.full((count, count), -np.inf), 1)
        out = np.empty_like(q)
        for head in range(self.heads):
            scores = q[:, head] @ k[:, head // group].T / np.sqrt(self.head_dim) + hidden_from
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, head] = (scores / scores.sum(axis=-1, keepdims=True)) @ v[:, head // group]
        return out.reshape(count, self.hidden) @ self.weight(block + "output.weight").T

    def feed_forward(self, x, layer):
        """SwiGLU (Shazeer 2020)."""
        block = f"blk.{layer}.ffn_"
        gate = x @ self.weight(block + "gate.weight").T
        up = x @ self.weight(block + "up.weight").T
        return (gate / (1.0 + np.exp(-gate)) * up) @ self.weight(block + "down.weight").T

    def logits(self, tokens):
        """Logits at every position, positions by vocabulary."""
        embedding = self.weight("token_embd.weight")
        x = embedding[np.asarray(tokens)]
        for layer in range(self.layers):
            x = x + self.attention(self.norm(x, f"blk.{layer}.attn_norm.weight"), layer)
            x = x + self.feed_forward(self.norm(x, f"blk.{layer}.ffn_norm.weight"), layer)
        x = self.norm(x, "output_norm.weight")
        head = self.weight("output.weight") if "output.weight" in self.tensors else embedding
        return x @ head.T


def tokenize(binary, model, text):
    """Token ids of a text file by llama-tokenize, without any token added before or after."""
    command = [binary, "-m", model, "-f", text, "--ids", "--no-escape", "--no-bos"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return json.loads(output)


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def golden(arguments):
    tokens = tokenize(arguments.llama_tokenize, arguments.model, arguments.text)[: arguments.positions]
    if len(tokens) < arguments.positions:
        raise SystemExit(f"{arguments.text}: only {len(tokens)} tokens")
    logits = Llama(arguments.model).logits(tokens)
    order = np.argsort(-logits, axis=-1, kind="stable")[:, :2]
    top = np.take_along_axis(logits, order, axis=-1)
    indices = np.sort(np.random.default_rng(SEED).integers(0, logits.shape[1], (len(tokens), SAMPLES)))
    sample = np.take_along_axis(logits, indices, axis=-1)
    return {
        "what": "float64 reference logits, full causal attention, no token added before the text",
        "made_by": "gates/reference/reference_forward.py",
        "with": {"python": platform.python_version(), "numpy": np.__version__, "gguf": version("gguf")},
        "model_sha256": sha256(arguments.model),
        "text": Path(arguments.text).name,
        "text_sha256": sha256(arguments.text),
        "vocabulary": logits.shape[1],
        "tokens": tokens,
        "top1": order[:, 0].tolist(),
        "top1_logit": np.round(top[:, 0], 6).tolist(),
        "margin": np.round(top[:, 0] - top[:, 1], 6).tolist(),
        "sample_indices": indices.tolist(),
        "sample_logits": np.round(sample, 6).tolist(),
    }


def compact(value):
    """JSON with one line for each key and, where a value is a list of lists, for each row."""
    lines = []
    for key, entry in value.items():
        if isinstance(entry, list) and entry and isinstance(entry[0], list):
            rows = ",\n".join("    " + json.dumps(row, separators=(",", ":")) for row in entry)
            lines.append(f"  {json.dumps(key)}: [\n{rows}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(entry, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--positions", type=int, default=500)
    parser.add_argument("--llama-tokenize", required=True, help="the llama-tokenize binary of llama.cpp")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    Path(arguments.out).write_text(compact(golden(arguments)), encoding="utf-8")


if __name__ == "__main__":
    main()

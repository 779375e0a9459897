#!/usr/bin/env python3
"""What the `gguf` package makes of quantised tensors: SHA-256 digests of the bits of its float32.

    pip install numpy gguf
    llama-quantize --allow-requantize gemma-3-270m-q4_k_m.gguf q5k.gguf Q5_K_M
    dequantised.py --smollm2 SmolLM2-135M-Instruct.Q4_1.gguf --gemma3 gemma-3-270m-q4_k_m.gguf --q5k q5k.gguf \\
        --out gates/goldens/dequantised.json

Tensors of the catalogued models are named, with the distance between the rows that were taken. For the types that no
such model has, the golden holds the blocks themselves, in hex: rows of a tensor of Gemma 3, quantised by the package,
or by llama.cpp where the package cannot.
"""

import argparse
import hashlib
import importlib.metadata
import json
from pathlib import Path

import gguf
import numpy as np

ROWS = 36  # of the blocks that are kept: one panel of 32 and some of the next
SOURCE = "blk.0.attn_output.weight"
NAMED = {
    "smollm2": ["token_embd.weight", "blk.0.ffn_down.weight", "blk.17.attn_k.weight", "output_norm.weight"],
    "gemma3": [
        "blk.0.attn_v.weight",
        "blk.0.attn_k.weight",
        "blk.9.ffn_up.weight",
        "blk.0.attn_output.weight",
        "blk.2.ffn_down.weight",
        "blk.0.ffn_down.weight",
        "blk.17.ffn_down.weight",
        "blk.3.ffn_norm.weight",
    ],
}
MODELS = {"smollm2": "smollm2-135m", "gemma3": "gemma3-270m"}
# Kept as blocks: the type and how many columns of a row.
KEPT = [("F16", 64), ("BF16", 64), ("Q4_0", 256), ("Q5_1", 256)]
# Types whose values the engine makes as `d * q + m`, with m = 0 or m = -(dmin * min): where the package has a zero
# with the sign of d, that sum is +0. In Q4_1 and Q5_1 the package adds a minimum as well.
ZERO_IS_POSITIVE = {"Q4_0", "Q5_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K"}


def entry(kind, data, every):
    values = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind]).astype(np.float32)
    values = values.reshape(-1, values.shape[-1])
    rows, columns = values.shape
    values = values[::every]
    negative = int(((values == 0) & np.signbit(values)).sum())
    if kind in ZERO_IS_POSITIVE:
        values = values + np.float32(0)
    return {
        "dtype": kind.replace("_K", "K").lower(),
        "rows": rows,
        "columns": columns,
        "every": every,
        "negative_zeros": negative,
        "sha256": hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").tobytes()).hexdigest(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["smollm2", "gemma3", "q5k", "out"]:
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    tensors = []
    for option, names in NAMED.items():
        path = getattr(arguments, option)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        of_file = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        for name in names:
            tensor = of_file[name]
            every = 61 if name == "token_embd.weight" else 1
            origin = {"model": MODELS[option], "model_sha256": digest, "tensor": name}
            tensors.append(origin | entry(tensor.tensor_type.name, tensor.data, every))

    def rows_of(path):
        return next(tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == SOURCE)

    def keep(kind, data):
        bytes_ = np.ascontiguousarray(data).tobytes()
        tensors.append({"tensor": SOURCE, "bytes": bytes_.hex()} | entry(kind, data, 1))

    source = rows_of(arguments.gemma3)
    values = gguf.quants.dequantize(source.data[:ROWS], source.tensor_type)
    for kind, columns in KEPT:
        part = np.ascontiguousarray(values[:, :columns])
        keep(kind, gguf.quants.quantize(part, gguf.GGMLQuantizationType[kind]))
    quantised = rows_of(arguments.q5k)
    assert quantised.tensor_type.name == "Q5_K", quantised.tensor_type
    _, block = gguf.GGML_QUANT_SIZES[quantised.tensor_type]
    keep("Q5_K", np.ascontiguousarray(quantised.data[:ROWS, :block]))

    version = importlib.metadata.version("gguf")
    golden = {"made_by": f"gates/reference/dequantised.py, gguf {version}, numpy {np.__version__}", "tensors": tensors}
    lines = json.dumps(golden, indent=1)
    arguments.out.write_text(lines + "\n")


if __name__ == "__main__":
    main()

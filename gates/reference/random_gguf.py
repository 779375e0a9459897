"""Write a GGUF of Qwen3-0.6B's shape with pseudo-random weights, for speed measurements: no published file of it can be
had where the hub cannot. Needs numpy and gguf.

    python gates/reference/random_gguf.py --type q8_0 --out qwen3-0.6b-shape-q8_0.gguf
"""

import argparse

import gguf
import numpy

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD, FEED_FORWARD, VOCABULARY = 1024, 28, 16, 8, 128, 3072, 151936
TYPES = {"q8_0": gguf.GGMLQuantizationType.Q8_0, "bf16": gguf.GGMLQuantizationType.BF16}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--type", choices=TYPES, required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    writer = gguf.GGUFWriter(args.out, "qwen3")
    writer.add_block_count(LAYERS)
    writer.add_context_length(40960)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("no_vocab")

    random = numpy.random.default_rng(20)

    def matrix(name, rows, columns):
        values = random.standard_normal((rows, columns), dtype=numpy.float32) * 0.02
        packed = gguf.quants.quantize(values, TYPES[args.type])
        writer.add_tensor(name, packed, raw_dtype=TYPES[args.type])

    def norm(name, width):
        writer.add_tensor(name, numpy.ones(width, dtype=numpy.float32))

    matrix("token_embd.weight", VOCABULARY, HIDDEN)
    norm("output_norm.weight", HIDDEN)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm.weight", HIDDEN)
        matrix(f"{block}.attn_q.weight", HEADS * HEAD, HIDDEN)
        matrix(f"{block}.attn_k.weight", KV_HEADS * HEAD, HIDDEN)
        matrix(f"{block}.attn_v.weight", KV_HEADS * HEAD, HIDDEN)
        matrix(f"{block}.attn_output.weight", HIDDEN, HEADS * HEAD)
        norm(f"{block}.attn_q_norm.weight", HEAD)
        norm(f"{block}.attn_k_norm.weight", HEAD)
        norm(f"{block}.ffn_norm.weight", HIDDEN)
        matrix(f"{block}.ffn_gate.weight", FEED_FORWARD, HIDDEN)
        matrix(f"{block}.ffn_up.weight", FEED_FORWARD, HIDDEN)
        matrix(f"{block}.ffn_down.weight", HIDDEN, FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()

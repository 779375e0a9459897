#!/usr/bin/env python3
"""Golden token ids: what llama.cpp's llama-tokenize makes of the same GGUF.

Writes the texts, their ids with special tokens read (`ids`) and taken as plain text (`ids_plain`). For a
byte-level vocabulary, it writes the ids under the other `pre` rules that the engine knows, too; for those, a
copy of the GGUF is written with that one field changed. A SentencePiece vocabulary (Gemma 3's, say) has no
such rules, and loses no byte.

    pip install gguf
    make_tokenizer_goldens.py --model M.gguf --llama-tokenize BIN/llama-tokenize \\
        --goldens gates/goldens --out gates/goldens/tokenizer-smollm2-135m.json
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf

FLAGS = ["--ids", "--no-escape", "--no-bos"]
OTHER_PRE = ["gpt-2", "qwen2", "llama-bpe"]

TEXTS = {
    "empty": "",
    "one_letter": "a",
    "one_space": " ",
    "greeting": "Hello, world!",
    "leading_and_trailing_spaces": "  two before and two after  ",
    "python": 'def f(x: int) -> str:\n    """Doc."""\n    return f"{x!r:>{10}}"  # done\n',
    "rust": "fn main() {\n    let v: Vec<u8> = b\"\\x00\\xff\".to_vec();\n    println!(\"{v:?}\");\n}\n",
    "html": '<p class="a">1 &lt; 2 &amp;&amp; x</p><!-- <|not_a_token|> -->',
    "shell": "grep -rn 'TODO' ./src | awk -F: '{print $1\"\\t\"$2}' >> out.txt 2>&1 && echo $?",
    "json": '{"a":[1,2.5e-3,null,true],"b":{"c":"\\u00e9"}}',
    "makefile_tabs": "all:\n\t@echo \"x\"\n\t\t$(MAKE) -C sub\n",
    "operators": "a+=b--c**d//e<<=f>>g!==h&&i||j??k::l->m=>n",
    "urls": "https://example.org/a_b?c=d&e=%20f#g user@example.org",
    "digits": "0 7 42 365 1234567890 3.14159 1,000,000 2024-02-29T23:59:60Z",
    "digits_glued": "abc123def456 v1.2.3-rc4 x86_64 0xDEADBEEF 1e-10",
    "numerals_of_other_scripts": "٣٤٥ ४५६ 一二三 Ⅷ ½ ² ₂ ① 𝟘𝟙𝟚",
    "contractions": "I'm you're he's we'd they'll I've don't can't o'clock 'tis rock 'n' roll",
    "contractions_upper": "I'M YOU'RE HE'S WE'D THEY'LL I'VE DON'T",
    "curly_quotes": "“It’s ‘quoted’,” she said…",
    "emoji": "🙂 😀😃 ❤️ ✅ 🚀🌍",
    "emoji_zwj": "👩‍👩‍👧‍👦 🏳️‍🌈 👨🏽‍💻 🧑🏿‍🚀",
    "emoji_flags_keycaps": "🇩🇪🇯🇵 1️⃣ #️⃣ 🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "chinese": "你好，世界！今天天气很好。",
    "japanese": "吾輩は猫である。名前はまだ無い。カタカナ ｶﾀｶﾅ",
    "korean": "안녕하세요 세계 가각힣 ㄱㄴㄷ",
    "rare_han": "𠀀𠮷 㐀 龘",
    "arabic_hebrew": "مرحبا بالعالم، שלום עולם",
    "indic_thai": "नमस्ते दुनिया, வணக்கம், สวัสดีชาวโลก",
    "cyrillic_greek": "Привет, мир! Γειά σου Κόσμε",
    "mixed_scripts": "abcабвαβγ中文кана 3号 version2版本",
    "combining_marks": "e\u0301 e\u0301\u0302\u0303 a\u0308o\u0308 \u0301alone Z\u0351\u036b\u0343algo",
    "composed_and_decomposed": "é e\u0301 ﬁ fi Å A\u030a ẛ̣",
    "latin_accents": "naïve café Straße ĳ Łódź İstanbul ſ ǅ",
    "long_spaces": "a" + " " * 7 + "b" + " " * 64 + "c" + " " * 200,
    "long_tabs": "\t" * 33 + "x" + "\t \t " * 8,
    "long_newlines": "a" + "\n" * 3 + "b" + "\n" * 50 + "c\n",
    "mixed_blanks": "a \n b\t\n  c \r\n\r\n d\v\fe \n\n\n   f",
    "carriage_returns": "one\rtwo\r\nthree\n\rfour\r\r\n",
    "unicode_blanks": "a\u00a0b\u2003c\u3000d\u2028e\u2029f\u1680g\u202fh\u0085i \u00a0 j",
    "zero_width": "a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg",
    "bidi_controls": "a\u202eb\u202cc\u2066d\u2069",
    "control_characters": "a\x00b\x01\x02\x03\x05\x07\x08\x0e\x0f\x10\x11\x12\x15\x17\x18\x19\x1a\x1b[0m\x1c\x1e\x1f\x7fz",
    "c1_controls": "a\u0080\u0084\u0085\u0090\u009fb",
    "private_and_unassigned": "a\ue000b\uf8ff \u0378 \U000e0001 \U0010fffd",
    "noncharacters": "\ufffe \uffff \U0001ffff \ufffd",
    "math_symbols": "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋ ∧ √2 ≈ 1.41 ± 0.01 → ∞ 𝑓(𝑥)",
    "box_drawing": "┌──┬──┐\n│a │b │\n└──┴──┘",
    "long_word": "pneumonoultramicroscopicsilicovolcanoconiosis" * 3,
    "one_letter_repeated": "a" * 300,
    "punctuation_runs": "!!!??? ... ------ ====== ******** ~~~~ ((())) [[[]]]",
    "almost_special": "<|im_start |> <| im_end|> <|endoftext| > <repo_name <file_sep >",
    "chat": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "special_glued": "x<|im_end|>y<|im_end|><|im_end|> z <|endoftext|>\n",
    "special_nested": "<|im_<|im_end|>start|> <<|im_start|>>",
}

# Bytes for which this vocabulary has no token. llama.cpp drops them without a word; the engine refuses.
DROPPED = {
    "end_of_transmission": "a!\x04!b",
    "group_separator": "record\x1drecord",
    "plane_four": "x \U00040000 y",
    "after_a_special_token": "é<|im_end|>\x06",
}


# Longer than this, a vocabulary's special tokens are sampled: Gemma 3 has six thousand places kept free.
MOST_SPECIAL = 40

PLANES = "".join(
    f"{chr(plane * 0x10000 + offset)} {chr(plane * 0x10000 + offset + 1)}{chr(plane * 0x10000 + offset + 2)}\n"
    for plane in range(17)
    for offset in (0x20, 0x1F00, 0x3041, 0x4E00, 0xAC00, 0xF900, 0xFFF0)
)

# What only a SentencePiece vocabulary meets: its own blank, bytes spelled out, merges that tie, newlines in a row.
SENTENCE_PIECE_TEXTS = {
    "planes": PLANES,
    "own_blank": "a\u2581b \u2581 c",
    "byte_spelled_out": "<0x41> <0x0A><0xE2><0x96><0x81>",
    "lost_elsewhere": "a!\x04!b record\x1drecord x \U00040000 y",
    "mark_in_pieces": "<end _of_turn> <bo s> <eos <pad>> [multimodal ]",
    "one_character_repeated": "=" * 130 + "\u6f22" * 70 + "\U0001f600" * 33,
    "runs_of_every_length": "".join("x" + "\n" * n + "y" + " " * n + "z" + "\t" * n for n in range(1, 36)),
    "no_blank_at_all": "".join(chr(0x4E00 + 37 * n % 20000) for n in range(600)),
}


def tokenize(binary, model, text, *flags):
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode("utf-8"))
        file.flush()
        command = [binary, "-m", model, "-f", file.name, *FLAGS, *flags]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout)


def special_texts(model):
    """Every control and user-defined token of the vocabulary, alone, glued to text, and all in a row."""
    fields = gguf.GGUFReader(model).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind in (3, 4)]
    special = special[:: max(1, len(special) // MOST_SPECIAL)]
    texts = {f"special_{number}": f"{text} left{text}right {text}" for number, text in enumerate(special)}
    texts["special_all"] = "".join(special)
    return texts


def with_pre(model, pre, folder):
    """A copy of the model that names another `pre` rule and is the same otherwise."""
    copy = str(Path(folder) / f"{pre}.gguf")
    command = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", "--force", "--pre-tokenizer", pre, model, copy]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return copy


def first_missing_byte(model, text):
    """The first byte of the text without a token of its own, and where it stands."""
    vocabulary = set(gguf.GGUFReader(model).fields["tokenizer.ggml.tokens"].contents())
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    displaced = [byte for byte in range(256) if byte not in printable]
    alphabet = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(displaced)}
    return next((byte, at) for at, byte in enumerate(text.encode()) if alphabet[byte] not in vocabulary)


def described(model):
    """What the file says of its vocabulary, read without the engine."""
    fields = gguf.GGUFReader(model).fields
    keys = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "adds_bos": "add_bos_token"}
    facts = {name: fields[f"tokenizer.ggml.{key}"].contents() for name, key in keys.items()}
    return {"vocabulary": len(fields["tokenizer.ggml.tokens"].contents()), **facts}


def version(binary):
    done = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True)
    return next(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("version"))


def golden(arguments):
    binary, model = arguments.llama_tokenize, arguments.model
    sentence_piece = gguf.GGUFReader(model).fields["tokenizer.ggml.model"].contents() == "llama"
    texts = TEXTS | special_texts(model) | (SENTENCE_PIECE_TEXTS if sentence_piece else {})
    for name in ("history-prose.txt", "history-code.txt"):
        text = Path(arguments.goldens, name).read_text(encoding="utf-8")
        texts[name.removesuffix(".txt").replace("-", "_")] = text[:2000]
    cases = [
        {
            "name": name,
            "text": text,
            "ids": tokenize(binary, model, text),
            "ids_plain": tokenize(binary, model, text, "--no-parse-special"),
        }
        for name, text in texts.items()
    ]
    dropped = []
    for name, text in ({} if sentence_piece else DROPPED).items():
        byte, offset = first_missing_byte(model, text)
        ids = tokenize(binary, model, text)
        dropped.append({"name": name, "text": text, "byte": byte, "offset": offset, "llama_cpp_ids": ids})
    other_pre = {}
    with tempfile.TemporaryDirectory() as folder:
        for pre in [] if sentence_piece else OTHER_PRE:
            copy = with_pre(model, pre, folder)
            other_pre[pre] = [{"name": case["name"], "ids": tokenize(binary, copy, case["text"])} for case in cases]
    return {
        "what": "token ids by llama.cpp for the same GGUF",
        "made_by": "gates/reference/make_tokenizer_goldens.py",
        "command": f"llama-tokenize -m MODEL -f TEXT {' '.join(FLAGS)} [--no-parse-special]",
        "llama_cpp": version(binary),
        "model_sha256": hashlib.sha256(Path(model).read_bytes()).hexdigest(),
        **described(model),
        "cases": cases,
        "dropped": dropped,
        "other_pre": other_pre,
    }


def compact(value):
    """JSON with one line for each case, in ASCII, so that no editor changes a rare character."""
    def rows(entries, indent):
        blank = " " * indent
        return "[\n" + ",\n".join(f"{blank}  {json.dumps(entry)}" for entry in entries) + f"\n{blank}]"

    lines = []
    for key, entry in value.items():
        if key == "other_pre":
            inner = ",\n".join(f"    {json.dumps(pre)}: {rows(cases, 4)}" for pre, cases in entry.items())
            lines.append(f"  {json.dumps(key)}: {{\n{inner}\n  }}")
        elif isinstance(entry, list):
            lines.append(f"  {json.dumps(key)}: {rows(entry, 2)}")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(entry)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--llama-tokenize", required=True, help="the llama-tokenize binary of llama.cpp")
    parser.add_argument("--goldens", required=True, help="the folder with the history texts")
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    Path(arguments.out).write_text(compact(golden(arguments)), encoding="utf-8")


if __name__ == "__main__":
    main()

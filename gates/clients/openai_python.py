"""What the official `openai` Python package makes of a server: one named check at a time.

    python3 openai_python.py BASE_URL MODEL CHECK

Ends with 0 when the check holds, and with a traceback where it does not. `--list` prints the checks.
"""

import asyncio
import inspect
import sys

import openai
from openai import AsyncOpenAI, OpenAI

CHAT = [
    {"role": "system", "content": "You answer in one short sentence."},
    {"role": "user", "content": "What is the capital of France?"},
]
# Greedy, so that answers can be compared.
GREEDY = {"temperature": 0, "max_tokens": 24}


class Server:
    """Clients of one server, and the model it serves."""

    def __init__(self, base_url, model):
        self.model = model
        options = {"base_url": base_url, "api_key": "unused", "timeout": 120}
        self.client = OpenAI(max_retries=0, **options)
        self.patient = OpenAI(max_retries=8, **options)
        self.asynchronous = AsyncOpenAI(max_retries=0, **options)

    def chat(self, **settings):
        settings = {"messages": CHAT} | GREEDY | settings
        return self.client.chat.completions.create(model=self.model, **settings)

    def complete(self, **settings):
        settings = {"prompt": "The capital of France is"} | GREEDY | settings
        return self.client.completions.create(model=self.model, **settings)


def joined(stream):
    """The text, the reason and the usage of a chat that came in chunks."""
    text, reasons, usage, roles = "", [], None, []
    for chunk in stream:
        assert chunk.object == "chat.completion.chunk", chunk
        usage = chunk.usage or usage
        for choice in chunk.choices:
            roles.append(choice.delta.role)
            text += choice.delta.content or ""
            if choice.finish_reason:
                reasons.append(choice.finish_reason)
    assert roles[0] == "assistant" and not any(roles[1:]), roles
    (reason,) = reasons
    return text, reason, usage


def cached(usage):
    """Tokens of the prompts that were not computed anew."""
    return usage.prompt_tokens_details.cached_tokens


def same_but_cached(usage, other):
    """Whether two usages tell the same of all else."""
    return usage.model_copy(update={"prompt_tokens_details": other.prompt_tokens_details}) == other


def refused(call, error, param=None, code=None):
    """The error of a call that must be refused with it."""
    try:
        call()
    except error as found:
        assert type(found) is error, found
        assert param is None or found.param == param, (found.param, param)
        assert code is None or found.code == code, (found.code, code)
        assert found.body["message"] and found.type, found.body
        return found
    raise AssertionError(f"no {error.__name__}")


def models(server):
    (listed,) = server.client.models.list().data
    assert listed.id == server.model and listed.object == "model", listed
    assert server.client.models.retrieve(server.model) == listed
    refused(lambda: server.client.models.retrieve("another"), openai.NotFoundError, code="model_not_found")


def chat(server):
    answer = server.chat()
    (choice,) = answer.choices
    assert answer.object == "chat.completion" and answer.id and answer.created > 1_700_000_000, answer
    assert answer.model == server.model and answer.system_fingerprint.startswith("fp_"), answer
    assert choice.message.role == "assistant" and "Paris" in choice.message.content, choice
    assert choice.finish_reason in ("stop", "length"), choice
    usage = answer.usage
    assert 1 <= usage.completion_tokens <= 24 and usage.prompt_tokens > 20, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
    assert cached(usage) == 0, usage
    again = server.chat()
    assert again.choices == answer.choices, (again, answer)
    assert same_but_cached(again.usage, usage) and cached(again.usage) == usage.prompt_tokens - 1, (again, answer)
    assert again.id != answer.id, again.id


def streaming_equals_whole(server):
    whole = server.chat()
    text, reason, usage = joined(server.chat(stream=True, stream_options={"include_usage": True}))
    assert text == whole.choices[0].message.content, (text, whole)
    assert reason == whole.choices[0].finish_reason, (reason, whole)
    assert same_but_cached(usage, whole.usage), (usage, whole.usage)
    assert (cached(whole.usage), cached(usage)) == (0, usage.prompt_tokens - 1), (whole.usage, usage)
    _, _, usage = joined(server.chat(stream=True))
    assert usage is None, usage


def the_stream_helper(server):
    whole = server.chat().choices[0].message.content
    settings = {"model": server.model, "messages": CHAT} | GREEDY
    with server.client.chat.completions.stream(**settings) as stream:
        events = [event for event in stream]
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole, final
    assert "".join(event.delta for event in events if event.type == "content.delta") == whole, events


def cached_prompts(server):
    first = server.chat(max_tokens=64)
    reply = first.choices[0]
    assert cached(first.usage) == 0 and reply.finish_reason == "stop", first
    # The next turn begins with the first prompt and its answer; what was read of the answer is the answer's tokens.
    turn = CHAT + [{"role": "assistant", "content": reply.message.content}, {"role": "user", "content": "And of Spain?"}]
    held = first.usage.prompt_tokens + first.usage.completion_tokens
    answer = server.chat(messages=turn)
    assert cached(answer.usage) == held < answer.usage.prompt_tokens, (first.usage, answer.usage)
    # Another that shares the system prompt alone, and more than nothing.
    other = server.chat(messages=[CHAT[0], {"role": "user", "content": "Name three colours."}], n=3, temperature=1, seed=5)
    assert 10 < cached(other.usage) < first.usage.prompt_tokens, other.usage
    # A prompt counts once, whatever is made of it: what its first answer found, and not what the others did.
    streamed, usage = {}, None
    settings = {"prompt": ["Seven colours has the", "Seven colours has the rainbow that"], "n": 2, "max_tokens": 48}
    for chunk in server.complete(stream=True, stream_options={"include_usage": True}, **settings):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + choice.text
    prompts = usage.prompt_tokens
    whole = server.complete(**settings)
    assert [choice.text for choice in whole.choices] == [streamed[index] for index in range(4)], (whole, streamed)
    assert whole.usage.prompt_tokens == prompts and cached(whole.usage) == prompts - 2, (whole.usage, usage)
    assert cached(usage) < prompts - 2, usage


def limits_of_length(server):
    for settings in ({"max_tokens": 3}, {"max_completion_tokens": 3, "max_tokens": openai.omit}):
        answer = server.chat(**settings)
        assert answer.choices[0].finish_reason == "length", answer
        assert answer.usage.completion_tokens == 3, answer.usage


def stop_strings(server):
    whole = server.complete(max_tokens=40, prompt="One, two, three, four,").choices[0].text
    stop = whole[7:12]
    at = whole.index(stop)
    for stops in (stop, ["never said", stop]):
        cut = server.complete(max_tokens=40, prompt="One, two, three, four,", stop=stops).choices[0]
        assert cut.text == whole[:at] and cut.finish_reason == "stop", (cut, whole, stop)
    text = ""
    for chunk in server.complete(max_tokens=40, prompt="One, two, three, four,", stop=stop, stream=True):
        text += chunk.choices[0].text
    assert text == whole[:at], (text, whole, stop)


def several_answers(server):
    settings = {"n": 3, "temperature": 1.2, "seed": 7, "max_tokens": 12}
    first, second = server.chat(**settings), server.chat(**settings)
    texts = [choice.message.content for choice in first.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2], first
    assert len(set(texts)) > 1, texts
    assert texts == [choice.message.content for choice in second.choices], (first, second)
    streamed = {}
    for chunk in server.chat(stream=True, **settings):
        for choice in chunk.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + (choice.delta.content or "")
    assert [streamed[index] for index in range(3)] == texts, (streamed, texts)


def seeds(server):
    def text(seed):
        return server.chat(temperature=1.5, seed=seed, max_tokens=16).choices[0].message.content

    assert text(1) == text(1) and text(-5) == text(-5)
    assert len({text(seed) for seed in range(4)}) > 1


def completions(server):
    answer = server.complete()
    assert answer.object == "text_completion" and "Paris" in answer.choices[0].text, answer
    text = "".join(chunk.choices[0].text for chunk in server.complete(stream=True))
    assert text == answer.choices[0].text, (text, answer)
    several = server.complete(prompt=["The capital of France is", "Two and two make"], n=2)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3], several
    assert several.choices[0].text == answer.choices[0].text == several.choices[1].text, several
    echoed = server.complete(echo=True).choices[0].text
    assert echoed == "The capital of France is" + answer.choices[0].text, echoed


def probabilities(server):
    answer = server.chat(logprobs=True, top_logprobs=3, max_tokens=6)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens, answer
    for token in content:
        assert len(token.top_logprobs) == 3 and token.logprob <= 0, token
        # Greedy: the token that was taken is the likeliest.
        assert token.top_logprobs[0].token == token.token, token
        assert bytes(token.bytes).decode(errors="replace") == token.token, token
    text = "".join(token.token for token in content)
    assert answer.choices[0].message.content in text, (answer, text)
    old = server.complete(logprobs=2, max_tokens=4).choices[0]
    assert len(old.logprobs.tokens) == len(old.logprobs.token_logprobs) == 4, old
    assert all(len(top) == 2 for top in old.logprobs.top_logprobs), old
    assert "".join(old.logprobs.tokens) == old.text, old
    biased = server.complete(max_tokens=1, logit_bias={"0": 100}).usage
    assert biased.completion_tokens == 1, biased


def penalties(server):
    prompt = "la la la la la la la la la la la"
    plain = server.complete(prompt=prompt, max_tokens=16).choices[0].text
    for settings in ({"presence_penalty": 2}, {"frequency_penalty": 2}, {"extra_body": {"repetition_penalty": 5}}):
        penalised = server.complete(prompt=prompt, max_tokens=16, **settings).choices[0].text
        assert penalised != plain, (settings, plain)
    for settings in ({"top_k": 1}, {"min_p": 1.0}):
        greedy = server.complete(temperature=2, seed=3, extra_body=settings).choices[0].text
        assert greedy == server.complete().choices[0].text, (settings, greedy)


def errors(server):
    bad = openai.BadRequestError
    refused(lambda: server.chat(temperature=3), bad, param="temperature")
    refused(lambda: server.chat(top_p=0), bad, param="top_p")
    refused(lambda: server.chat(n=0), bad, param="n")
    refused(lambda: server.chat(messages=[]), bad, param="messages")
    refused(lambda: server.chat(messages=[{"role": "wizard", "content": "x"}]), bad, param="messages[0].role")
    refused(lambda: server.chat(top_logprobs=2), bad, param="top_logprobs")
    refused(lambda: server.chat(extra_body={"stream": "yes"}), bad, param="stream")
    refused(lambda: server.complete(prompt=[999_999_999]), bad)
    image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    refused(lambda: server.chat(messages=[{"role": "user", "content": image}]), bad)
    refused(lambda: server.complete(prompt=""), bad, param="prompt")
    unknown = lambda: server.client.chat.completions.create(model="another", messages=CHAT)
    refused(unknown, openai.NotFoundError, param="model", code="model_not_found")
    # What nobody knows is ignored, as OpenAI does.
    assert server.chat(user="somebody", extra_body={"unheard_of": {"a": [1]}}).choices


def embeddings_are_not_served(server):
    call = lambda: server.client.embeddings.create(model=server.model, input="x")
    refused(call, openai.NotFoundError, code="unknown_url")


def asynchronous(server):
    async def one(number):
        settings = {"model": server.model, "messages": CHAT, "seed": number, "temperature": 1, "max_tokens": 12}
        whole = await server.asynchronous.chat.completions.create(**settings)
        text = ""
        stream = await server.asynchronous.chat.completions.create(stream=True, **settings)
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
        return whole.choices[0].message.content, text

    async def all_of_them():
        return await asyncio.gather(*(one(number) for number in range(6)))

    for whole, streamed in asyncio.run(all_of_them()):
        assert whole == streamed, (whole, streamed)


def a_busy_server_asks_to_come_back(server):
    """The server has two places and no queue: both are held, and given up after a moment."""
    held = [server.chat(stream=True, max_tokens=100_000, temperature=1.5, seed=seed) for seed in range(2)]
    for stream in held:
        next(iter(stream))
    found = refused(server.chat, openai.RateLimitError, code="overloaded")
    assert int(found.response.headers["retry-after"]) >= 1, found.response.headers
    for stream in held:
        stream.close()
    answer = server.patient.chat.completions.create(model=server.model, messages=CHAT, **GREEDY)
    assert answer.choices[0].message.content, answer


def checks(names):
    """The functions of a script that check a server, by their names."""
    return {
        name: check
        for name, check in names.items()
        if inspect.isfunction(check)
        and check.__module__ == names["__name__"]
        and list(inspect.signature(check).parameters) == ["server"]
    }


def run(named):
    """Does what the command line asks for."""
    if sys.argv[1:] == ["--list"]:
        print("\n".join(named))
    else:
        base_url, model, check = sys.argv[1:]
        named[check](Server(base_url, model))


if __name__ == "__main__":
    run(checks(globals()))

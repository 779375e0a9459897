"""What schemathesis cannot know of the server.

A request that names a model names the one that is served, and fields that are taken only beside another have it beside
them. Values of a wrong type stay as they are. Read through SCHEMATHESIS_HOOKS, with the model's name in KAKEYA_MODEL.
"""

import os

import schemathesis

MODEL = os.environ["KAKEYA_MODEL"]


@schemathesis.hook
def map_body(context, body):
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("model"), str):
        body["model"] = MODEL
    if isinstance(body.get("top_logprobs"), int):
        body["logprobs"] = True
    if isinstance(body.get("stream_options"), dict):
        body["stream"] = True
    if isinstance(body.get("best_of"), int):
        body["n"] = body["best_of"]
    return body

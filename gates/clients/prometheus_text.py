"""What Prometheus's own Python parser makes of `GET /metrics`.

    python3 prometheus_text.py URL

Prints one JSON object: each sample's name with its labels in their order, and its value. Ends with a traceback where
the text is not what the format says.
"""

import json
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def main(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        kind = answer.headers["content-type"]
        assert kind == "text/plain; version=0.0.4; charset=utf-8", kind
        text = answer.read().decode("utf-8")
    samples = {}
    for family in text_string_to_metric_families(text):
        assert family.type in ("counter", "gauge", "histogram"), f"{family.name} is a {family.type}"
        assert family.documentation, f"{family.name} has no help"
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in samples, f"{name} comes twice"
            samples[name] = sample.value
        if family.type == "histogram":
            counts = [s.value for s in family.samples if s.name.endswith("_bucket")]
            assert counts == sorted(counts), f"{family.name} is not cumulative"
            assert counts[-1] == samples[f"{family.name}_count"], f"{family.name} has another count"
    print(json.dumps(samples))


main(*sys.argv[1:])

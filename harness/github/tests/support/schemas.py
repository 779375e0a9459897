"""Cuts the schemas of the answers that kakeya-github reads, and of the bodies that it sends, out of GitHub's description.

npm pack @octokit/openapi@23.0.2 && tar xzf octokit-openapi-23.0.2.tgz
python3 harness/github/tests/support/schemas.py package/generated/api.github.com.json > harness/github/tests/support/schemas.json
"""
import json
import sys

DEEP = 2
KEPT = ("type", "required", "enum", "nullable", "maxItems", "maxLength")
ANSWERS = {
    "repository": ("/repos/{owner}/{repo}", "get", "200"),
    "pull": ("/repos/{owner}/{repo}/pulls/{pull_number}", "get", "200"),
    "files": ("/repos/{owner}/{repo}/pulls/{pull_number}/files", "get", "200"),
    "labels": ("/repos/{owner}/{repo}/issues/{issue_number}/labels", "get", "200"),
    "added": ("/repos/{owner}/{repo}/issues/{issue_number}/labels", "post", "200"),
    "removed": ("/repos/{owner}/{repo}/issues/{issue_number}/labels/{name}", "delete", "200"),
    "label": ("/repos/{owner}/{repo}/labels/{name}", "get", "200"),
    "made-label": ("/repos/{owner}/{repo}/labels", "post", "201"),
    "tree": ("/repos/{owner}/{repo}/git/trees/{tree_sha}", "get", "200"),
    "made-check": ("/repos/{owner}/{repo}/check-runs", "post", "201"),
    "check": ("/repos/{owner}/{repo}/check-runs/{check_run_id}", "get", "200"),
    "checks": ("/repos/{owner}/{repo}/commits/{ref}/check-runs", "get", "200"),
    "absent": ("/repos/{owner}/{repo}/labels/{name}", "get", "404"),
    "invalid": ("/repos/{owner}/{repo}/labels", "post", "422"),
}
BODIES = {
    "make-label": ("/repos/{owner}/{repo}/labels", "post"),
    "add-label": ("/repos/{owner}/{repo}/issues/{issue_number}/labels", "post"),
    "make-check": ("/repos/{owner}/{repo}/check-runs", "post"),
    "add-to-check": ("/repos/{owner}/{repo}/check-runs/{check_run_id}", "patch"),
}

with open(sys.argv[1], encoding="utf-8") as file:
    whole = json.load(file)


def follow(node):
    while "$ref" in node:
        target = whole
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def cut(node, deep=0):
    node = follow(node)
    for several in ("oneOf", "anyOf", "allOf"):
        if several in node and "type" not in node:
            parts = [cut(part, deep) for part in node[several]]
            return {several: parts, **({"nullable": True} if node.get("nullable") else {})}
    kept = {key: node[key] for key in KEPT if key in node}
    if deep < DEEP and "properties" in node:
        kept["properties"] = {name: cut(part, deep + 1) for name, part in sorted(node["properties"].items())}
    elif "properties" in node:
        kept.pop("required", None)
    if "items" in node:
        kept["items"] = cut(node["items"], deep)
    return kept


def answer(path, method, status):
    content = follow(whole["paths"][path][method]["responses"][status])["content"]
    return cut(content["application/json"]["schema"])


def body(path, method):
    return cut(whole["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"])


schemas = {
    "source": f"github/rest-api-description, version {whole['info']['version']}, as in the npm package @octokit/openapi 23.0.2 (MIT)",
    "answers": {name: answer(*of) for name, of in ANSWERS.items()},
    "bodies": {name: body(*of) for name, of in BODIES.items()},
}
json.dump(schemas, sys.stdout, indent=None, separators=(",", ":"), sort_keys=True)
print()

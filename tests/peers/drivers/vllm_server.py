"""Stands in for vLLM's `tests/utils.py`: its server class, of which every instance is one that runs already.

That is the site; or, where `address` was changed, the site's engine.
"""

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self
from urllib.parse import urljoin

import openai
import requests

ROCM_EXTRA_ARGS: list[str] = []
MAX_TOKENS = 400  # of an answer, where a test sets no bound

address = SimpleNamespace(root=os.environ["OPENAI_BASE_URL"].removesuffix("/v1"))


class SessionWithKey(requests.Session):
    """Some tests ask without a client, and their server wants no key."""

    def __init__(self) -> None:
        super().__init__()
        self.headers["Authorization"] = f"Bearer {os.environ['OPENAI_API_KEY']}"


requests.sessions.Session = SessionWithKey


class RemoteOpenAIServer:
    def __init__(self, model: str, vllm_serve_args: list[str], **options: Any) -> None:
        """The arguments are those of a server of its own; this one runs with the site's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The site goes on."""

    @property
    def url_root(self) -> str:
        return address.root

    def url_for(self, *parts: str) -> str:
        return urljoin(self.url_root + "/", "/".join(parts))

    def get_client(self, **options: Any) -> openai.OpenAI:
        return self._with_defaults(openai.OpenAI(**self._options(options)))

    def get_async_client(self, **options: Any) -> openai.AsyncOpenAI:
        return self._with_defaults(openai.AsyncOpenAI(**self._options(options)))

    def _options(self, options: Any) -> dict[str, Any]:
        return {"base_url": self.url_for("v1"), "max_retries": 0, "timeout": 120, **options}

    def _with_defaults(self, client: Any) -> Any:
        """Some tests name no model, since their server has one. Some set no bound, and a small model rambles."""
        chats = client.chat.completions
        chats.create = _bounded(chats.create)
        responses = client.responses
        responses.create, responses.parse = _named(responses.create), _named(responses.parse)
        return client


def _named(create: Callable[..., Any]) -> Callable[..., Any]:
    def named(**body: Any) -> Any:
        return create(
            **{"max_output_tokens": MAX_TOKENS, **body, "model": body.get("model") or os.environ["PEER_MODEL"]}
        )

    return named


def _bounded(create: Callable[..., Any]) -> Callable[..., Any]:
    def bounded(**body: Any) -> Any:
        named = {"max_tokens", "max_completion_tokens"} & body.keys()
        return create(**body) if named else create(**body, max_completion_tokens=MAX_TOKENS)

    return bounded

"""Stands in for vLLM's `tests/utils.py`: its server class, of which every instance is the site that runs already."""

import os
from typing import Any, Self
from urllib.parse import urljoin

import openai

URL = os.environ["OPENAI_BASE_URL"]
KEY = os.environ["OPENAI_API_KEY"]


class RemoteOpenAIServer:
    def __init__(self, model: str, vllm_serve_args: list[str], **options: Any) -> None:
        """The arguments are those of a server of its own; this one runs with the site's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The site goes on."""

    @property
    def url_root(self) -> str:
        return URL.removesuffix("/v1")

    def url_for(self, *parts: str) -> str:
        return urljoin(self.url_root + "/", "/".join(parts))

    def get_client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(**{"max_retries": 0, "timeout": 120, **options})

    def get_async_client(self, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(**{"max_retries": 0, "timeout": 120, **options})

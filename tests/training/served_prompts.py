"""The prompts that the engine builds: bodies of requests in on the standard input, token ids out.

    python -m tests.training.served_prompts MODEL

It runs in the engine's interpreter, and is vLLM's own way from a request to a prompt, without an engine. A body may
have a "chat_template"; a line of JSON comes out for each: {"ids": […]} or {"refused": "…"}.
"""

import asyncio
import json
import logging
import sys
from typing import Any

from vllm.engine.arg_utils import EngineArgs
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import VLLMValidationError
from vllm.renderers import renderer_from_config
from vllm.renderers.online_renderer import OnlineRenderer


async def answer(online: OnlineRenderer, body: dict[str, Any]) -> dict[str, Any]:
    try:
        rendered = await online.render_chat(ChatCompletionRequest(**body))
        if not isinstance(rendered, tuple):
            return {"refused": str(rendered.error.message)}
        return {"ids": list(rendered[1][0]["prompt_token_ids"])}
    except (ValueError, VLLMValidationError) as error:
        return {"refused": str(error)}


async def main(model: str) -> None:
    config = EngineArgs(model=model, enforce_eager=True, dtype="bfloat16").create_engine_config()
    online = OnlineRenderer(
        model_config=config.model_config, renderer=renderer_from_config(config), request_logger=None,
        chat_template=None, chat_template_content_format="auto", trust_request_chat_template=True,
        enable_auto_tools=True, tool_parser="hermes",
    )  # fmt: skip
    for body in json.load(sys.stdin):
        print(json.dumps(await answer(online, body)), flush=True)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asyncio.run(main(sys.argv[1]))

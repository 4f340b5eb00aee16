import json
import pytest
from typing import Any
from apps.models.models import Model
from tests.models.gateway.cast import CHAT, Asking, chat


async def test_it_works(asking: Asking, served: Model) -> None:
    answer = await asking.post(chat("Hello there"))
    assert answer.status == 200, answer
    assert answer.json["choices"][0]["message"]["content"] == "Answer to: Hello there"

async def test_it_streams(asking: Asking, served: Model) -> None:
    answer = await asking.post(chat("Hello there", stream=True))
    assert answer.status == 200, answer
    print(answer.events)

"""Bespoke Labs' curator: a dataset through its batch mode, which uploads plain bytes and waits for the file."""

import os
from pathlib import Path

os.environ |= {
    "TELEMETRY_ENABLED": "0",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "CURATOR_CACHE_DIR": str(Path("cache").resolve()),
}

from typing import Any, Literal

from bespokelabs import curator
from checks import KEY, MODEL, URL, check, run
from pydantic import BaseModel

PARAMS: dict[str, Any] = {"base_url": URL, "api_key": KEY, "batch_check_interval": 1, "require_all_responses": False}
ALL_ENDS: dict[str, Any] = {"invalid_finish_reasons": ["content_filter"]}


def model(**more: Any) -> Any:
    generation = {"max_tokens": 16, "temperature": 0.1, **more.pop("generation_params", {})}
    params = {**PARAMS, **ALL_ENDS, **more}
    return curator.LLM(
        model_name=MODEL, backend="openai", batch=True, backend_params=params, generation_params=generation
    )


@check("prompts in a batch")
def prompts() -> None:
    answers = model()([f"Say {number}." for number in range(4)]).dataset
    assert len(answers) == 4
    assert all(answers["response"])


@check("several batches")
def several() -> None:
    answers = model(batch_size=2)([f"Count to {number}." for number in range(5)]).dataset
    assert len(answers) == 5


@check("successful files are deleted")
def deleted() -> None:
    answers = model(delete_successful_batch_files=True)(["Say one.", "Say two."]).dataset
    assert len(answers) == 2


class Word(BaseModel):
    word: Literal["wet", "cold"]


class Poet(curator.LLM):  # type: ignore[misc]
    response_format = Word

    def prompt(self, row: dict[str, Any]) -> str:
        return f"One word about {row['topic']}."

    def parse(self, row: dict[str, Any], answer: Word) -> dict[str, Any]:
        return {"topic": row["topic"], "word": answer.word}


@check("answers in a schema")
def schema() -> None:
    poet = Poet(
        model_name=MODEL, backend="openai", batch=True, backend_params={**PARAMS, **ALL_ENDS},
        generation_params={"max_tokens": 64},
    )  # fmt: skip
    assert poet([{"topic": "rain"}, {"topic": "snow"}]).dataset is not None


run("bespokelabs-curator")

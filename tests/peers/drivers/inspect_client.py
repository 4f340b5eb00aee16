"""inspect-ai: an evaluation whose samples go through its batch mode, by chat completions and by responses."""

import os
from typing import Any

from checks import MODEL, check, run
from inspect_ai import Task
from inspect_ai import eval as evaluate_task
from inspect_ai.dataset import Sample
from inspect_ai.model import BatchConfig, GenerateConfig, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

BATCH = BatchConfig(size=4, send_delay=0.5, tick=0.5)
os.environ["INSPECT_DISPLAY"] = "none"


def evaluate(*, samples: int = 4, responses: bool = False, **config: Any) -> Any:
    settings = GenerateConfig(**{"max_tokens": 16, "temperature": 0, "batch": BATCH, **config})
    model = get_model(f"openai/{MODEL}", responses_api=responses, config=settings, memoize=False)
    dataset = [Sample(input=f"What is {number}?", target="a") for number in range(samples)]
    task = Task(dataset=dataset, solver=generate(), scorer=includes())
    (log,) = evaluate_task(task, model=model, log_dir="logs", display="none")
    assert log.status == "success", log.error
    assert len(log.samples or []) == samples
    assert all(sample.output.completion for sample in log.samples or [])
    return log


@check("samples in a batch of chat completions")
def chats() -> None:
    evaluate()


@check("samples in several batches")
def several() -> None:
    evaluate(samples=6, batch=BatchConfig(size=2, max_size=2, send_delay=0.2, tick=0.5))


@check("samples in a batch of responses")
def responses() -> None:
    evaluate(responses=True)


@check("settings of a generation")
def settings() -> None:
    evaluate(top_p=0.9, seed=3, stop_seqs=["###"], frequency_penalty=0.1, num_choices=2, temperature=0.7)


@check("one sample at a time, without a batch")
def interactive() -> None:
    evaluate(samples=2, batch=None)


run("inspect-ai")

"""lm-eval-harness: a task of its own, by chats, and by completions, whose prompts' logprobs it needs."""

import json
import os
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(Path("cache").resolve())}

import lm_eval
from checks import MODEL, URL, check, run
from lm_eval.tasks import TaskManager

ROWS = [
    {"question": "What is the capital of France?", "answer": "Paris", "choices": ["Paris", "Rome"], "label": 0},
    {"question": "What is the capital of Italy?", "answer": "Rome", "choices": ["Paris", "Rome"], "label": 1},
    {"question": "What is the capital of Spain?", "answer": "Madrid", "choices": ["Oslo", "Madrid"], "label": 1},
]
Path("tasks").mkdir()
Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
COMMON: dict[str, Any] = {
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": str(Path("rows.jsonl").resolve())}},
    "test_split": "test",
    "doc_to_text": "{{question}}",
}
TASKS: dict[str, dict[str, Any]] = {
    "peer_generates": {
        "output_type": "generate_until",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 16, "do_sample": False, "temperature": 0},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
    "peer_chooses": {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "peer_reads": {
        "output_type": "loglikelihood_rolling",
        "doc_to_target": "{{question}} {{answer}}",
        "metric_list": [{"metric": "byte_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False}],
    },
}
for name, task in TASKS.items():
    Path(f"tasks/{name}.yaml").write_text(json.dumps({"task": name, **COMMON, **task}))  # YAML holds JSON


def evaluate(kind: str, task: str, path: str, *, batch_size: int = 1, **more: Any) -> dict[str, Any]:
    place = {"model": MODEL, "base_url": URL + path, "num_concurrent": 2, "max_retries": 1}
    place |= more.pop("model_args", {})
    found: Any = lm_eval.simple_evaluate(
        model=kind, model_args=place, tasks=[task], task_manager=TaskManager(include_path="tasks"), limit=2,
        batch_size=batch_size, bootstrap_iters=0, **more,
    )  # fmt: skip
    assert len(found["samples"][task]) == 2
    return dict(found["results"][task])


@check("local-chat-completions: it generates")
def chats() -> None:
    found = evaluate("local-chat-completions", "peer_generates", "/chat/completions", apply_chat_template=True)
    assert "exact_match,none" in found, found


@check("local-chat-completions: settings of a generation")
def chat_settings() -> None:
    evaluate(
        "local-chat-completions", "peer_generates", "/chat/completions", apply_chat_template=True,
        gen_kwargs="temperature=0.5,top_p=0.9,top_k=5,repetition_penalty=1.1", system_instruction="Be short.",
    )  # fmt: skip


TOKENS = {"tokenizer": os.environ["PEER_MODEL_PATH"]}


@check("local-completions: it generates from text")
def completions() -> None:
    evaluate("local-completions", "peer_generates", "/completions", model_args={**TOKENS, "tokenized_requests": False})


@check("local-completions: it chooses by the prompts' logprobs, from tokens")
def chooses() -> None:
    found = evaluate("local-completions", "peer_chooses", "/completions", model_args=TOKENS)
    assert 0 <= found["acc,none"] <= 1, found


@check("local-completions: several prompts in one request")
def several() -> None:
    evaluate("local-completions", "peer_chooses", "/completions", model_args=TOKENS, batch_size=4)


@check("local-completions: perplexity")
def reads() -> None:
    found = evaluate("local-completions", "peer_reads", "/completions", model_args=TOKENS)
    assert found["byte_perplexity,none"] > 1, found


run("lm-eval")

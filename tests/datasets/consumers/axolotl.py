"""Reads files with axolotl's own strategies, as a configuration would name them; prints what it saw.

    python -m tests.datasets.consumers.axolotl FOLDER TOKENIZER KIND=PATH…

FOLDER holds the package and what its strategies import, without what it trains with. KIND is one of `KINDS`. It runs in
the trainer's interpreter. Of each row comes what axolotl makes of it: turns, and the text that is learned.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import datasets
from transformers import AutoTokenizer

MODULES = ("prompt_strategies", "prompt_strategies.dpo.chat_template", "utils.dict")  # they lie in FOLDER
TEMPLATE = "qwen3"  # of those that it brings; it has places for tools and reasoning
SHAREGPT = {"field_messages": "conversations", "message_property_mappings": {"role": "from", "content": "value"}}
KINDS: dict[str, dict[str, Any]] = {
    "chat": {"type": "chat_template", "chat_template": TEMPLATE, "field_messages": "messages"},
    "sharegpt": {"type": "chat_template", "chat_template": TEMPLATE, **SHAREGPT},
    "alpaca": {"type": "alpaca_chat.load"},
    "alpaca_system": {"type": "alpaca_w_system.load"},
    "pairs": {"type": "chat_template.default", "chat_template": TEMPLATE, "field_messages": "prompt"},
}


def seen(kind: str, path: Path, tokenizer: Any) -> list[Any]:
    strategies, pairs, dicts = (importlib.import_module(f"axolotl.{name}") for name in MODULES)
    rows = datasets.load_dataset("json", data_files=str(path))["train"]
    chosen = dicts.DictDefault({"path": str(path), **KINDS[kind]})
    whole = dicts.DictDefault({"sequence_len": 100_000, "train_on_inputs": False, "datasets": [chosen]})
    if kind == "pairs":
        pair, _ = pairs.default(whole)
        return [pair(row, tokenizer=tokenizer) for row in rows]
    strategy = strategies.load(chosen.type, tokenizer, whole, chosen)
    return [learned(strategy, row, tokenizer) for row in rows]


def learned(strategy: Any, row: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    made = strategy.tokenize_prompt(row)
    pairs = zip(made["input_ids"], made["labels"], strict=True)
    turns = strategy.get_conversation_thread(row) if hasattr(strategy, "get_conversation_thread") else None
    return {
        "turns": turns, "text": tokenizer.decode(made["input_ids"]),
        "learned": tokenizer.decode([token for token, label in pairs if label != -100]),
    }  # fmt: skip


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    words = AutoTokenizer.from_pretrained(sys.argv[2])
    files = [argument.partition("=") for argument in sys.argv[3:]]
    print("\n" + json.dumps([seen(kind, Path(path), words) for kind, _, path in files]))

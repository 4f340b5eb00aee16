"""Reads exports with LLaMA-Factory's own converters, as its `dataset_info.json` would name them; prints what it saw.

    python -m tests.datasets.consumers.llama_factory FOLDER FORMATTING=PATH…

FOLDER holds the package, installed without what it trains with: so its converters are loaded without the rest of it.
FORMATTING is alpaca, sharegpt, openai, or sharegpt_pairs. It runs in the trainer's interpreter.
"""

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import datasets

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "alpaca": {"columns": {"system": "system", "history": "history"}},
    "sharegpt": {"formatting": "sharegpt", "columns": {"messages": "conversations", "tools": "tools"}},
    "sharegpt_pairs": {
        "formatting": "sharegpt", "ranking": True,
        "columns": {"messages": "conversations", "tools": "tools", "chosen": "chosen", "rejected": "rejected"},
    },
    "openai": {
        "formatting": "openai", "columns": {"messages": "messages", "tools": "tools"},
        "tags": {
            "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
            "observation_tag": "tool", "function_tag": "function", "system_tag": "system",
        },
    },
}  # fmt: skip
ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}


def converted(folder: Path, formatting: str, path: Path) -> list[Any]:
    sys.path.insert(0, str(folder))
    package = types.ModuleType("llamafactory.data")
    package.__path__ = [str(folder / "llamafactory/data")]
    sys.modules["llamafactory.data"] = package
    converter = importlib.import_module("llamafactory.data.converter")
    parser = importlib.import_module("llamafactory.data.parser")
    attribute = parser.DatasetAttr("file", dataset_name=path.name)
    given = ATTRIBUTES[formatting]
    attribute.join({**given, "columns": {**ALPACA, **given["columns"]}})
    convert = converter.get_dataset_converter(attribute.formatting, attribute, types.SimpleNamespace(media_dir=""))
    rows = datasets.load_dataset("json", data_files=str(path))["train"]
    return [{key: value for key, value in convert(row).items() if value} for row in rows]


if __name__ == "__main__":
    pairs = [argument.partition("=") for argument in sys.argv[2:]]
    print(json.dumps([converted(Path(sys.argv[1]), formatting, Path(path)) for formatting, _, path in pairs]))

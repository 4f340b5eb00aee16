"""Reads LLaMA-Factory's own sample data with its own converters, as its `dataset_info.json` names them; prints what it
saw.

    python -m tests.datasets.consumers.llama_factory_samples FOLDER DATA

FOLDER holds the package, installed without what it trains with; DATA is the `data` of its repository. It runs in the
trainer's interpreter. A line of JSON comes out for each file: {"name", "rows"}, and what its newer converters make of
the same rows, in its newer format: {"name", "newer"}.
"""

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any


def package(folder: Path, name: str) -> None:
    """As if it had been imported, without what its `__init__` imports."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder / name.replace(".", "/"))]
    sys.modules[name] = module


def main(folder: Path, data: Path) -> None:
    sys.path.insert(0, str(folder))
    for name in ("data", "v1", "v1.plugins", "v1.plugins.data_plugins"):
        package(folder, f"llamafactory.{name}")
    converter = importlib.import_module("llamafactory.data.converter")
    parser = importlib.import_module("llamafactory.data.parser")
    newer = importlib.import_module("llamafactory.v1.plugins.data_plugins.converter")
    info = json.loads((data / "dataset_info.json").read_text())
    for name, each in info.items():
        path = data / each.get("file_name", "-")
        if path.suffix != ".json" or not path.is_file():
            continue
        attribute = parser.DatasetAttr("file", dataset_name=name)
        attribute.join(each)
        convert = converter.get_dataset_converter(attribute.formatting, attribute, types.SimpleNamespace(media_dir=""))
        rows = json.loads(path.read_text())
        columns = {name for row in rows for name in row}
        whole = [dict.fromkeys(columns) | row for row in rows]
        print(json.dumps({"name": path.name, "rows": [clean(convert(row)) for row in whole]}))
        if not each.get("ranking") and "messages" not in columns:
            made = [getattr(newer, f"{attribute.formatting}_converter")(row) for row in rows]
            print(json.dumps({"name": path.name, "newer": made}))


def clean(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

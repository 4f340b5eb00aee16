"""Chat templates of the installed packages, and conversations to try them with: what is learned is what is served.

Nothing of a package is kept here: templates are read where the interpreters have them. Django-free.
"""

import ast
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]

BAR = "[|\uff5c]"
MARK = re.compile(
    rf"<{BAR}[^<>\s|\uff5c]{{1,40}}{BAR}?>|<[^<>\s|\uff5c]{{1,40}}{BAR}>|</?[a-z_]{{1,24}}>|\[/?[A-Z_]{{2,24}}\]"
)
"""What looks like a token of its own in a template."""
OF_SETTINGS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
OWN = Path("own")
NOT_CHATS = ("_training",)  # TRL's variants of another, for its own masks


def templates(*interpreters: Path, folder: Path | None = None) -> dict[str, str]:
    """Name -> text: TRL's, vLLM's and Unsloth's, and those of `folder`, named after its sub-folders."""
    found: dict[str, str] = {}
    for python in interpreters:
        for packages in sorted(python.parent.parent.glob("lib/python3*/site-packages")):
            for path in sorted((packages / "trl" / "chat_templates").glob("*.jinja")):
                found[f"trl/{path.stem}"] = path.read_text()
            for path in sorted((packages / "vllm").rglob("template_*.jinja")):
                found[f"vllm/{path.stem.removeprefix('template_')}"] = path.read_text()
            found |= _of_unsloth(packages / "unsloth" / "chat_templates.py")
    return found | (_of_folder(folder) if folder else {})


def _of_folder(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*.jinja")):
        place = path.parent.relative_to(folder)
        found[str((OWN if place == Path() else place) / path.stem)] = path.read_text()
    return found


def _of_unsloth(module: Path) -> dict[str, str]:
    """Its texts are in the module's source, which imports a GPU's libraries: it is read, not run."""
    if not module.exists():
        return {}
    found = {}
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name, value = node.targets[0].id, node.value
            text = value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
            if name.endswith("_template") and "ollama" not in name and "messages" in text:
                found[f"unsloth/{name.removesuffix('_template')}"] = text
    return found


def make_model(source: Path, target: Path, texts: list[str]) -> Path:
    """The configuration and tokenizer of `source`, to whose vocabulary the marks of the templates are added."""
    target.mkdir(parents=True)
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    added = {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]}
    known = {*added, *tokenizer["model"]["vocab"]}
    new = sorted({mark for text in texts for mark in MARK.findall(text)} | set(OF_SETTINGS.values()))
    size = len(tokenizer["model"]["vocab"])
    for number, mark in enumerate(mark for mark in new if mark not in known):
        entry = {"id": size + number, "content": mark, "single_word": False, "lstrip": False, "rstrip": False}
        tokenizer["added_tokens"].append(entry | {"normalized": False, "special": True})
    (target / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((source / "config.json").read_text())
    top = max(entry["id"] for entry in tokenizer["added_tokens"]) + 1
    ids = {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]} | {"<s>": 1}
    ends = {"bos_token_id": ids.get("<s>"), "eos_token_id": ids["</s>"], "pad_token_id": ids["<pad>"]}
    (target / "config.json").write_text(json.dumps(config | {"vocab_size": top} | ends))
    (target / "generation_config.json").write_text(json.dumps(ends))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 100_000, **OF_SETTINGS}
    (target / "tokenizer_config.json").write_text(json.dumps(settings))
    shutil.copyfile(source / "model.safetensors", target / "model.safetensors")
    return target


def conversations() -> dict[str, Row]:
    """Forty, by what is in them."""
    return dict(_conversations())


def _conversations() -> Iterator[tuple[str, Row]]:
    yield "one turn", {"messages": [user("Capital of Peru?"), says("Lima.")]}
    yield "system", {"messages": [system("Be brief."), user("Capital of Peru?"), says("Lima.")]}
    yield "empty system", {"messages": [system(""), user("Capital of Peru?"), says("Lima.")]}
    yield "developer", {"messages": [{"role": "developer", "content": "Be brief."}, user("Hello"), says("Hi.")]}
    yield (
        "system and developer",
        {"messages": [system("A"), {"role": "developer", "content": "B"}, user("Hello"), says("Hi.")]},
    )
    yield "two turns", {"messages": [user("Capital of Peru?"), says("Lima."), user("And of Chile?"), says("Santiago.")]}
    yield "four turns", {"messages": [m for n in range(4) for m in (user(f"{n} + 1?"), says(f"{n + 1}"))]}
    yield "ten turns", {"messages": [m for n in range(10) for m in (user(f"{n} + 1?"), says(f"It is {n + 1}."))]}
    yield (
        "system, two turns",
        {"messages": [system("Be brief."), user("Capital of Peru?"), says("Lima."), user("Sure?"), says("Yes.")]},
    )
    yield (
        "first turn shown only",
        {"messages": [user("Capital of France?"), says("Lyon.", weight=0), user("Sure?"), says("Paris.")]},
    )
    yield "last turn shown only", {"messages": [user("A?"), says("B."), user("C?"), says("D.", weight=0)]}
    yield (
        "weights",
        {"messages": [user("A?"), says("B.", weight=1), user("C?"), says("D.", weight=0), user("E?"), says("F.")]},
    )
    yield "two users in a row", {"messages": [user("A"), user("B"), says("C.")]}
    yield "two answers in a row", {"messages": [user("A"), says("B."), says("C.")]}
    yield "name", {"messages": [{**user("Who am I?"), "name": "Ana"}, says("Ana.")]}
    yield "unicode", {"messages": [user("Wie heißt 東京? 🗼"), says("Tōkyō 🗼 heißt «東京» — «é» ﷺ.")]}
    yield "blank begin", {"messages": [user("Say it"), says("  two blanks")]}
    yield "line begin", {"messages": [user("Say it"), says("\n\nline")]}
    yield "blank end", {"messages": [user("Say it "), says("two blanks  ")]}
    yield "line end", {"messages": [user("Say it\n"), says("line\n\n")]}
    yield "lines", {"messages": [user("Poem\n\nplease"), says("One\n\nTwo\n\tThree\r\nFour")]}
    yield "code", {"messages": [user("Code?"), says("```python\nif a < b and {'x': 1}:\n    print('{{ a }}')\n```")]}
    yield "number", {"messages": [user("4 + 4?"), says("8")]}
    yield "long", {"messages": [user("Repeat " + "word " * 300), says("word " * 300 + ".")]}
    yield "parts", {"messages": [{"role": "user", "content": [part("Capital"), part("of Peru?")]}, says("Lima.")]}
    yield (
        "parts of all",
        {
            "messages": [
                {"role": "system", "content": [part("Be"), part("brief.")]},
                {"role": "user", "content": [part("Hello")]},
                {"role": "assistant", "content": [part("Hi."), part("You?")]},
            ]
        },
    )
    yield "reasoning", {"messages": [user("4 + 4?"), says("8.", reasoning_content="Four and four.")]}
    yield "reasoning by its other name", {"messages": [user("4 + 4?"), says("8.", reasoning="Four and four.\nYes.")]}
    yield "reasoning, two turns", {
        "messages": [
            user("4 + 4?"), says("8.", reasoning_content="Four and four."),
            user("And 1?"), says("9.", reasoning_content="Eight and one."),
        ]
    }  # fmt: skip
    yield "thinking in the text", {"messages": [user("4 + 4?"), says("<think>\nFour.\n</think>\n\n8.")]}
    yield "no thinking", {"messages": [user("4 + 4?"), says("8.")], "chat_template_kwargs": {"enable_thinking": False}}
    yield (
        "thinking wanted",
        {
            "messages": [user("4 + 4?"), says("8.", reasoning_content="Four.")],
            "chat_template_kwargs": {"enable_thinking": True, "thinking": True},
        },
    )
    yield (
        "no thinking, two turns",
        {
            "messages": [user("4 + 4?"), says("8."), user("And 1?"), says("9.")],
            "chat_template_kwargs": {"enable_thinking": False, "thinking": False},
        },
    )
    yield "unknown arguments", {"messages": [user("A"), says("B.")], "chat_template_kwargs": {"no_such": [1], "x": "y"}}
    yield "tools unused", {"messages": [user("Hello"), says("Hi.")], "tools": [WEATHER]}
    yield "call", {"messages": [user("Warm in Oslo?"), calls(("c1", {"city": "Oslo"}))], "tools": [WEATHER]}
    yield (
        "call and result",
        {
            "messages": [
                user("Warm in Oslo?"),
                calls(("c1", {"city": "Oslo"})),
                result("c1", "19"),
                says("19 degrees."),
            ],
            "tools": [WEATHER],
        },
    )
    yield "parallel calls", {
        "messages": [
            user("Oslo or Rome?"), calls(("c1", {"city": "Oslo"}), ("c2", {"city": "Rome", "deep": {"a": [1, None]}})),
            result("c1", "19"), result("c2", "31"), says("Rome."),
        ],
        "tools": [WEATHER, BARE],
    }  # fmt: skip
    yield "call with words and thoughts", {
        "messages": [
            system("Be brief."), user("Warm in Oslo?"),
            calls(("c1", {"city": "Oslo"}), content="I look.", reasoning_content="I need the weather."),
            result("c1", '{"t": 19}'), says("19 degrees.", reasoning_content="It said 19."),
            user("And Rome?"), calls(("c2", {"city": "Rome"})), result("c2", "31"), says("31 degrees."),
        ],
        "tools": [WEATHER],
    }  # fmt: skip
    yield (
        "odd tools",
        {
            "messages": [user("Now?"), calls(("c1", {}), name="now"), result("c1", "noon", name="now"), says("Noon.")],
            "tools": [BARE, STRICT],
        },
    )


def user(content: str) -> Row:
    return {"role": "user", "content": content}


def system(content: str) -> Row:
    return {"role": "system", "content": content}


def says(content: str, **more: Any) -> Row:
    return {"role": "assistant", "content": content, **more}


def part(text: str) -> Row:
    return {"type": "text", "text": text}


def calls(*asked: tuple[str, Row], name: str = "weather", **more: Any) -> Row:
    made = [
        {"id": uid, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for uid, arguments in asked
    ]
    return {"role": "assistant", "tool_calls": made, **more}


def result(uid: str, content: str, **more: Any) -> Row:
    return {"role": "tool", "tool_call_id": uid, "content": content, **more}


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
BARE = {"type": "function", "function": {"name": "now"}}
STRICT = {
    "function": {"strict": True, "parameters": {"type": "object", "properties": {}}, "name": "then"},
    "type": "function",
}

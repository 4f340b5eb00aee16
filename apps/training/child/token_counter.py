"""The child that counts the tokens of a prepared file.

    python -m apps.training.child.token_counter FOLDER FILE SECONDS

It runs in the trainer's interpreter, which has `tokenizers`. A model's tokenizer and chat template are programs of
strangers: here, and not in a server, there are limits on memory and time. One line of JSON comes out: how many rows
were counted before the time was over, and their tokens.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from apps.models.admission.chat_template import environment

MEMORY_BYTES = 4 * 1024**3
PIECE = 50_000  # characters that are encoded at once: the library keeps a hundred bytes a token
ANSWERS = ("completion", "preferred_completion", "non_preferred_completion")
NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")

Row = dict[str, Any]


class Counter:
    """Counts as the trainer does: conversations by the model's chat template, other texts as they are."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        settings = _json(folder / "tokenizer_config.json")
        self._special = {name: _text(settings[name]) for name in NAMES if settings.get(name)}
        around = self._tokenizer.encode("").ids
        end = self._tokenizer.token_to_id(self._special.get("eos_token", ""))
        self._around: int = len(around) + (around[-1:] != [end])
        """Tokens at the begin and the end of a text that is no conversation."""
        self._render = environment().from_string(_template(folder, settings)).render

    def count(self, row: Row) -> int:
        """Of a preference pair, both conversations."""
        if "prompt" in row:
            answers = [row[key] for key in ("completion", "chosen", "rejected") if key in row]
            return sum(self._tokens(row["prompt"] + answer) + self._around for answer in answers)
        if "input" not in row:
            return self._chat(row["messages"], row.get("tools"))
        asked = row["input"]
        return sum(
            self._chat([*asked["messages"], *row[answer]], asked.get("tools")) for answer in ANSWERS if answer in row
        )

    def _chat(self, messages: list[Row], tools: list[Any] | None) -> int:
        told = [_called(message) for message in messages]
        return self._tokens(self._render(messages=told, tools=tools, add_generation_prompt=False, **self._special))

    def _tokens(self, text: str) -> int:
        return sum(len(self._tokenizer.encode(piece, add_special_tokens=False).ids) for piece in pieces(text))


def pieces(text: str) -> Iterator[str]:
    """A long text in parts, each cut before a space, where tokenizers begin a new word anyway."""
    start = 0
    while len(text) - start > PIECE:
        cut = text.rfind(" ", start + 1, start + PIECE)
        end = cut if cut > start else start + PIECE
        yield text[start:end]
        start = end
    yield text[start:]


def _called(message: Row) -> Row:
    """As templates want it: one text, and the arguments of calls as objects, which OpenAI writes as text."""
    content = message.get("content") or ""
    text = content if isinstance(content, str) else "\n".join(part["text"] for part in content)
    if "tool_calls" not in message:
        return {**message, "content": text}
    calls = [
        {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "content": text, "tool_calls": calls}


def _template(folder: Path, settings: Row) -> str:
    """The model's own; without one, the texts a line each."""
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text()
    found = settings.get("chat_template")
    if isinstance(found, list):
        found = {entry["name"]: entry["template"] for entry in found}.get("default")
    return found or "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _json(path: Path) -> Row:
    return dict(json.loads(path.read_text())) if path.exists() else {}


def count_file(path: Path, count: Callable[[Row], int], *, seconds: float) -> tuple[int, int]:
    """Rows and tokens, as far as the time lasts."""
    until, rows, tokens = time.monotonic() + seconds, 0, 0
    with path.open("rb") as file:
        for line in file:
            if time.monotonic() > until:
                break
            tokens += count(json.loads(line))
            rows += 1
    return rows, tokens


if __name__ == "__main__":
    seconds = float(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (2 * int(seconds) + 10, 2 * int(seconds) + 10))
    print(json.dumps(count_file(Path(sys.argv[2]), Counter(Path(sys.argv[1])).count, seconds=seconds)))

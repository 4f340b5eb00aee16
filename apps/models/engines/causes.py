"""Why an engine ended, found in what it printed: one sentence, without tracebacks and without the server's paths.

vLLM's API server ends with "Engine core initialization failed. See root cause above": the cause is the last exception
before that, of the engine's core or of one of its workers. A process that the system ended, by a segmentation fault or
the like, prints no exception, but where it was (Python's faulthandler).
"""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

MAX_CHARACTERS = 300

PREFIX = r"(?:\([\w.:-]+(?: pid=\d+)?\) )*(?:(?:ERROR|CRITICAL) [^\[]*\[[^\]]*\] ?)?"
EXCEPTION = re.compile(PREFIX + r"((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Errors))(?:: ?(.*))?")
FRAMES = 40  # of a thread; other threads stand before it
FATAL = re.compile(PREFIX + r"Fatal Python error: (.+)")
FRAME = re.compile(r'  File "(.+)", line (\d+) in (\S+)')
LINE = re.compile(PREFIX + r"(.*)")
CONSEQUENCES = (  # of an exception that was printed before
    "initialization failed", "See root cause", "See stack trace", "EngineDeadError", "EngineCore encountered an issue",
    "CancelledError", "BrokenPipeError", "ConnectionResetError", "Executor failed", "cancelled",
)  # fmt: skip
PATH = re.compile(r"(?<![\w.:/])/(?!v1/)(?:[\w.@+=-]+/)+([\w.@+=-]*)/?")
VALIDATION = re.compile(r"\d+ validation errors? for .*")
DETAILS = re.compile(r" \[type=.*| \(type=.*")


def last_cause(lines: Iterable[str], folder: Path) -> str:
    """The cause, without a full stop; empty where no exception was printed. `folder` is the model's."""
    printed = list(lines)
    found = ""
    for number, line in enumerate(printed):
        if fault := FATAL.fullmatch(line.rstrip()):
            found = f"{fault[1]}{_place(printed[number + 1 :])}"
        match = EXCEPTION.fullmatch(line.rstrip())
        if match and not any(sign in line for sign in CONSEQUENCES):
            found = _sentence(match[1], match[2] or "", printed[:number], printed[number + 1 :])
    return _short(without_paths(found, folder))


def _sentence(name: str, message: str, before: list[str], behind: list[str]) -> str:
    kind = name.rpartition(".")[2]
    if VALIDATION.fullmatch(message):  # what is wrong stands in the line below
        message = DETAILS.sub("", _text(behind[0]).removeprefix("Value error, ")) if behind else message
    elif not message:
        source = [text for line in before[-3:] if (text := _text(line)) and not set(text) <= set("^~ ")]
        message = f"at `{source[-1]}`" if source else ""
    return f"{kind}: {message}" if message else kind


def _place(behind: list[str]) -> str:
    """Where the thread was that did it: in vLLM, if its own code is among the frames."""
    stack = itertools.dropwhile(lambda line: not line.startswith("Current thread"), behind)
    frames = [match for line in itertools.islice(stack, 1, FRAMES) if (match := FRAME.fullmatch(line))]
    frame = next((frame for frame in frames if "/vllm/" in frame[1]), frames[0] if frames else None)
    return f" in {frame[3]} ({frame[1].rpartition('/')[2]}, line {frame[2]})" if frame else ""


def _text(line: str) -> str:
    match = LINE.fullmatch(line.rstrip())
    return match[1].strip() if match else ""


def without_paths(text: str, folder: Path | None = None) -> str:
    """Files of the model by their names in its folder, all others by their last part: where they lie on this server is
    no business of those who ask it.
    """
    if folder:
        text = text.replace(f"{folder}/", "").replace(str(folder), "the model's folder")
    return PATH.sub(lambda match: match[1], text)


def _short(text: str) -> str:
    """The first sentence of what is long: lists of all names that would have been right follow it."""
    text = text.strip()
    if len(text) > MAX_CHARACTERS // 2:
        text = text.partition(". ")[0]
    text = text.rstrip(".: ")
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS].rsplit(' ', 1)[0]} …"

"""Writes the table of chat templates in docs/fine-tuning.md: of the packages that are installed, and of a folder.

    python -m tests.training.template_table [FOLDER]

FOLDER may have templates of one's own (*.jinja), which are tried and printed, and not written down. Those in its
sub-folders, which are named after where they come from, are written down too. Rows of other sources stay as they are.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import django
from django.conf import settings

from tests.training import corpus
from tests.training.as_served import outcomes

PAGE, START, END = "docs/fine-tuning.md", "<!-- templates -->\n", "<!-- end of templates -->\n"
HEAD = "| chat template | learned as served | left out, and why |\n|---|---|---|\n"
VARIABLE = re.compile(r"(the model's chat template refuses it: )(.{0,60}).*", re.S)
OWN = f"{corpus.OWN}/"
NAME = re.compile(r"\| `([^`]+)`")
AT_ONCE = 30  # templates, which share a vocabulary


def main(folder: Path | None) -> None:
    found = corpus.templates(settings.TRAINER_PYTHON, settings.ENGINE_PYTHON, folder=folder)
    templates = {name: text for name, text in found.items() if not name.endswith(corpus.NOT_CHATS)}
    rows: dict[str, str] = {}
    for some in batched(templates, AT_ONCE):
        pairs = [(template, conversation) for template in some for conversation in corpus.conversations()]
        with TemporaryDirectory() as place:
            made = outcomes({name: templates[name] for name in some}, pairs, Path(place) / "model")
        rows |= {
            name: row(name, [(each.left_out, each.wrong) for each in made if each.template == name]) for name in some
        }
    print(HEAD + "".join(rows.values()))
    page = settings.BASE_DIR / PAGE
    before, rest = page.read_text().split(START)
    table, after = rest.split(END)
    page.write_text(f"{before}{START}{HEAD}{merged(table, rows)}{END}{after}")


def merged(table: str, rows: dict[str, str]) -> str:
    """The rows, and those that the table has of other sources than these."""
    known = {found[1]: f"{line}\n" for line in table.splitlines() if (found := NAME.match(line))}
    sources = {name.partition("/")[0] for name in rows}
    kept = {name: text for name, text in known.items() if name.partition("/")[0] not in sources} | rows
    return "".join(text for name, text in kept.items() if not name.startswith(OWN))


def batched(names: Iterable[str], size: int) -> Iterator[list[str]]:
    left = list(names)
    while left:
        yield left[:size]
        left = left[size:]


def row(name: str, outcomes: Iterable[tuple[str, str]]) -> str:
    """`outcomes`: why a conversation is left out, and what is wrong with it."""
    kinds = list(outcomes)
    right = sum(not left_out and not wrong for left_out, wrong in kinds)
    reasons = Counter(short(left_out or f"WRONG: {wrong}") for left_out, wrong in kinds if left_out or wrong)
    said = "<br>".join(f"{count}: {why}" for why, count in reasons.most_common())
    return f"| `{name}` | {right} of {len(kinds)} | {said} |\n"


def short(reason: str) -> str:
    text = VARIABLE.sub(r"\1\2", reason).removeprefix("the model's chat template ").removeprefix("refuses it: ")
    return text.rstrip(".").replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "batchserver.settings")
    django.setup()
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)

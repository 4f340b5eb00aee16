"""Writes the table of chat templates in docs/fine-tuning.md, of the packages that are installed.

    python -m tests.training.template_table [FOLDER]

FOLDER may have templates of one's own (*.jinja), which are tried and printed, and not written down.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import django
from django.conf import settings

from tests.training import corpus

PAGE, START, END = "docs/fine-tuning.md", "<!-- templates -->\n", "<!-- end of templates -->\n"
HEAD = "| chat template | learned as served | left out, and why |\n|---|---|---|\n"
VARIABLE = re.compile(r"(the model's chat template refuses it: )(.{0,60}).*", re.S)
OWN = "own/"


def main(folder: Path | None) -> None:
    from tests.training.as_served import outcomes  # noqa: PLC0415 - it needs Django's settings

    found = corpus.templates(settings.TRAINER_PYTHON, settings.ENGINE_PYTHON, folder=folder)
    templates = {name: text for name, text in found.items() if not name.endswith(corpus.NOT_CHATS)}
    pairs = [(template, conversation) for template in templates for conversation in corpus.conversations()]
    with TemporaryDirectory() as place:
        made = outcomes(templates, pairs, Path(place) / "model")
    rows = {
        name: row(name, [(each.left_out, each.wrong) for each in made if each.template == name]) for name in templates
    }
    print(HEAD + "".join(rows.values()))
    page = settings.BASE_DIR / PAGE
    before, rest = page.read_text().split(START)
    table = "".join(text for name, text in rows.items() if not name.startswith(OWN))
    page.write_text(f"{before}{START}{HEAD}{table}{END}{rest.split(END)[1]}")


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

"""Training files, and jobs made through the services."""

import json
from collections.abc import Iterable
from typing import Any

from django.core.files.base import ContentFile

from apps.accounts.models import Project
from apps.batches.models import File
from apps.batches.services import create_file
from apps.models.models import Model
from apps.training.models import TrainingJob
from apps.training.services import create_job


def example(number: int) -> dict[str, Any]:
    """A good row for supervised training."""
    question = {"role": "user", "content": f"What is {number} + {number}?"}
    return {"messages": [question, {"role": "assistant", "content": f"It is {2 * number}."}]}


def preference(number: int) -> dict[str, Any]:
    """A good row for preferences, in the names of OpenAI's guide."""
    question, answer = example(number)["messages"]
    worse = {"role": "assistant", "content": "I do not know."}
    return {"input": {"messages": [question]}, "preferred_output": [answer], "non_preferred_output": [worse]}


def thumb(number: int, *, up: bool) -> dict[str, Any]:
    """A good row for thumbs, as TRL has them."""
    question, answer = example(number)["messages"]
    worse = {"role": "assistant", "content": "I do not know."}
    return {"prompt": [question], "completion": [answer if up else worse], "label": up}


def jsonl(rows: Iterable[Any]) -> bytes:
    """A file's bytes; a row of bytes stands there as it is."""
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def make_file(project: Project, rows: Iterable[Any] | None = None, *, purpose: str = "fine-tune") -> File:
    """Of twelve examples, unless told otherwise."""
    content = jsonl(map(example, range(12)) if rows is None else rows)
    upload = ContentFile(content, "train.jsonl")
    return create_file(project=project, filename="train.jsonl", purpose=purpose, upload=upload)


def make_job(project: Project, base: Model, file: File | None = None, **options: Any) -> TrainingJob:
    return create_job(project=project, base=base, training_file=file or make_file(project), **options)

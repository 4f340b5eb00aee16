"""The rows of an import that cannot be used: counted by reason, the first of them kept with their lines, and all of
them written to a file that people can download.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import msgspec
from django.db import transaction

from apps.batches.line_lists import LineList, line_list, saved
from apps.batches.models import File
from apps.batches.services import delete_file
from apps.core.errors import DomainError
from apps.datasets.imports.accounting import FieldCounter, sentence, would_lose
from apps.datasets.models import Import
from apps.datasets.reasons import Reasons

MAX_ERRORS = 100
MESSAGE_CHARACTERS = 500


class Flaws:
    """Whether they stop the import is the import's own choice. Memory holds the first `MAX_ERRORS` and the reasons."""

    def __init__(self, job: Import, listed: LineList, fields: FieldCounter | None = None) -> None:
        """`listed`: an empty list for all of them. `fields` knows what else would be lost."""
        self._job, self._listed, self._fields = job, listed, fields
        self.errors: list[dict[str, Any]] = []
        self.reasons = Reasons()
        self.count = 0
        self.notes: list[str] = []
        """Sentences on what is read of the file and what is not."""

    @property
    def fatal(self) -> bool:
        """Nothing will come of it any more; reading on finds the other flaws."""
        return (bool(self.count) and not self._job.skip_bad) or self._loses

    @property
    def _loses(self) -> bool:
        return self._fields is not None and self._fields.has_losses and not self._job.accept_losses

    def add(self, line: int, message: str) -> None:
        self.count += 1
        message = message[:MESSAGE_CHARACTERS]
        error = {"line": line, "message": message}
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(error)
        self.reasons.add(message, line)
        self._listed.add(error)

    def facts(self) -> dict[str, Any]:
        fields = self._fields.uses() if self._fields else []
        return {
            "errors": self.errors, "skipped": self.count, "reasons": self.reasons.listed(),
            "uses": msgspec.to_builtins(fields),
        }  # fmt: skip

    def sentence(self, rows: int, what: str = "") -> str:
        """What became of the rows."""
        kinds = f" for {len(self.reasons)} reasons" if len(self.reasons) > 1 else ""
        left_out = f", {self.count:,} were left out{kinds}" if self.count else ""
        lost = self._fields.losses() if self._fields else []
        unused = f" Not used: {sentence(lost)}." if lost else ""
        return " ".join([f"{rows:,} row{'s' * (rows != 1)} imported{what}{left_out}.{unused}", *self.notes])

    def settle(self, rows: int) -> None:
        """At the end of the file. Raises `DomainError`, the errors kept on the import, when nothing can come of it."""
        if rows and not self.fatal:
            return
        with self.listed_file() as file, transaction.atomic():
            Import.objects.filter(pk=self._job.pk).update(errors_file=saved(file), **self.facts())
        if not self.fatal and not self.count:
            raise DomainError("The file holds no row.", param="file")
        raise DomainError(" ".join(filter(None, [self._bad(), self._lost()])))

    def listed_file(self) -> AbstractContextManager[File | None]:
        """All of them, stored; its row is for the caller to save. None where there are none."""
        return self._listed.stored(self._job.project, f"{self._job.filename[:200]}.errors.jsonl")

    def _bad(self) -> str:
        if not self.count:
            return ""
        kinds = f" ({len(self.reasons)} reasons)" if len(self.reasons) > 1 else ""
        advice = ": correct the file, or import it again without them." if not self._job.skip_bad else "."
        return f"{self.count:,} row{'s' * (self.count != 1)} cannot be used, so nothing was imported{kinds}{advice}"

    def _lost(self) -> str:
        return would_lose(self._fields.losses(), "Nothing was imported") if self._fields and self._loses else ""


@contextmanager
def recorded(job: Import, fields: FieldCounter | None = None) -> Iterator[Flaws]:
    """The flaws of an import that begins. What an earlier try of it left is deleted."""
    if job.errors_file:
        delete_file(file=job.errors_file)
    with line_list() as listed:
        yield Flaws(job, listed, fields)

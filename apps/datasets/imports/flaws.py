"""The rows of an import that cannot be used: counted by reason, the first of them kept with their lines, and all of
them written to a file that people can download.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, Any

import msgspec
from django.conf import settings
from django.db import transaction

from apps.batches import storage
from apps.batches.models import File
from apps.batches.services import delete_file
from apps.core.errors import DomainError
from apps.core.json_lines import escape_separators_in_bytes
from apps.datasets.imports.accounting import FieldCounter, sentence, would_lose
from apps.datasets.models import Import
from apps.datasets.reasons import Reasons

MAX_ERRORS = 100
MESSAGE_CHARACTERS = 500
BLOCK = 256 * 1024  # bytes

_encode = msgspec.json.Encoder().encode


class Flaws:
    """Whether they stop the import is the import's own choice. Memory holds the first `MAX_ERRORS` and the reasons."""

    def __init__(self, job: Import, listed: IO[bytes], fields: FieldCounter | None = None) -> None:
        """`listed`: an empty file for all of them. `fields` knows what else would be lost."""
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
        self._listed.write(escape_separators_in_bytes(_encode(error)) + b"\n")

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

    @contextmanager
    def listed_file(self) -> Iterator[File | None]:
        """All of them, stored; its row is for the caller to save. None where there are none."""
        if not self.count:
            yield None
            return
        job = self._job
        self._listed.seek(0)
        name = f"{job.filename[:200]}.errors.jsonl"
        file = File(project=job.project, filename=name, purpose=File.Purpose.USER_DATA)
        stored = storage.write(f"{job.project.uid}/{file.uid}", iter(lambda: self._listed.read(BLOCK), b""))
        file.content, file.bytes, file.sha256 = stored.name, stored.bytes, stored.sha256
        try:
            yield file
        except BaseException:
            storage.delete(stored.name)
            raise

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
    settings.FILE_UPLOAD_TEMP_DIR.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR, prefix="errors.") as listed:
        yield Flaws(job, listed, fields)


def saved(file: File | None) -> File | None:
    if file:
        file.save()
    return file

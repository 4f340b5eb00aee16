"""The rows of an import that cannot be used: counted, and the first of them kept with their lines."""

from typing import Any

from apps.core.errors import DomainError
from apps.datasets.models import Import

MAX_ERRORS = 100


class Flaws:
    """Whether they stop the import is the import's own choice."""

    def __init__(self, job: Import) -> None:
        self._job = job
        self.errors: list[dict[str, Any]] = []
        self.count = 0

    @property
    def fatal(self) -> bool:
        """Nothing will come of it any more; reading on finds the other flaws."""
        return bool(self.count) and not self._job.skip_bad

    @property
    def full(self) -> bool:
        return self.fatal and len(self.errors) >= MAX_ERRORS

    def add(self, line: int, message: str) -> None:
        self.count += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append({"line": line, "message": message[:500]})

    def facts(self) -> dict[str, Any]:
        return {"errors": self.errors, "skipped": self.count}

    def sentence(self, rows: int) -> str:
        """What became of the rows."""
        left_out = f", {self.count:,} were left out" if self.count else ""
        return f"{rows:,} row{'s' * (rows != 1)} imported{left_out}."

    def settle(self, rows: int) -> None:
        """At the end of the file. Raises `DomainError`, the errors kept on the import, when nothing can come of it."""
        if rows and not self.fatal:
            return
        Import.objects.filter(pk=self._job.pk).update(**self.facts())
        if not self.count:
            raise DomainError("The file holds no row.", param="file")
        more = "At least " if self.full else ""
        raise DomainError(
            f"{more}{self.count:,} row{'s' * (self.count != 1)} cannot be used, so nothing was imported: correct the"
            " file, or import it again without them."
        )

"""What becomes of one install: looked up, fetched, checked, and then left to `boot`.

Killed at any moment, it goes on: the status says which step it was, and what is on disk is not fetched again.
"""

import logging
import time
from typing import Any

import msgspec
import psycopg
from django.conf import settings
from django.db import Error, IntegrityError, connection, transaction

from apps.core import bell, leases
from apps.core.drain import STOP
from apps.core.errors import Stopped
from apps.core.secrets import Unreadable
from apps.events import progress
from apps.models.installs import errand, fitting, sources
from apps.models.installs.errand import Failed, File, News, Order, Refused
from apps.models.installs.preflight import check_disk, find_base
from apps.models.models import HubToken, Install, Model

BEAT = 0.5  # seconds between two looks at the row, and two writes of progress
LOOK_UP_TRIES = 4
FETCH_TRIES = 5

Status = Install.Status

log = logging.getLogger(__name__)


class Cancelled(Exception):
    """Somebody cancelled it."""


class Installation:
    """One install, from what its row says to BOOTING, or to its end."""

    def __init__(self, install: Install, held: leases.Held, keeper: leases.Keeper) -> None:
        self._install, self._held, self._keeper = install, held, keeper
        self._source = sources.parse(install.source, endpoint=settings.HF_ENDPOINT)
        self._news: News = {}
        self._told: News = {}
        self._beat = 0.0

    def run(self) -> None:
        """Every way to end is a status of the row; raises only what lets it go on later."""
        try:
            self._steps()
        except Cancelled:
            self._end(Status.CANCELLED, "Cancelled.")
        except Refused as error:
            self._end(Status.REFUSED, str(error), refusals=error.refusals)
        except (Failed, Unreadable) as error:
            self._end(Status.FAILED, str(error))
        except (Stopped, leases.Fenced, Error, psycopg.Error):
            raise
        except Exception:
            log.exception("%s failed", self._install.uid)
            self._end(Status.FAILED, "The server made a mistake, which its log describes.")

    def _steps(self) -> None:
        self._look()
        if self._install.status == Status.QUEUED:
            self._advance(Status.RESOLVING, message="Asks for the commit, the licence and the sizes.")
        found = self._look_up()
        base = find_base(self._install, found["config"]) if found["adapter"] else None
        if self._install.base and not found["adapter"]:
            raise Refused(f"{self._source.suggested_name} is a whole model, not an adapter: leave the base out.")
        if not base and (early := fitting.weight_bytes(found.get("parameters", {}))):
            self._judge_fit(found["config"], early)
        ready = self._bring(found, base)
        if not base:
            self._judge_fit(found["config"], ready["weights"])
        self._hand_over(found, ready, base)

    def _look_up(self) -> News:
        order = Order(
            verb="resolve",
            endpoint=settings.HF_ENDPOINT,
            token=self._token(),
            repo=self._source.repo,
            revision=self._install.revision or self._source.revision,
            folder=str(self._source.folder or ""),
            max_bytes=settings.MODEL_MAX_BYTES,
        )
        return self._send(order, tries=LOOK_UP_TRIES)

    def _bring(self, found: News, base: Model | None) -> News:
        """Have the files here, checked."""
        order = Order(
            verb="inspect", folder=str(self._source.folder), key=settings.SECRET_KEY, base=base.path if base else ""
        )
        if not self._source.folder:
            files = tuple(msgspec.convert(item, File) for item in found["items"])
            total = sum(file.bytes for file in files)
            folder = sources.files_folder(settings.MODELS_DIR, self._source.repo, found["commit"])
            check_disk(folder, files)
            order = msgspec.structs.replace(
                order, verb="fetch", endpoint=settings.HF_ENDPOINT, token=self._token(), repo=self._source.repo,
                revision=found["commit"], files=files, folder=str(folder),
            )  # fmt: skip
            if self._install.status != Status.CHECKING:
                known = {"revision": found["commit"], "license": found["license"], "bytes_total": total}
                self._advance(Status.DOWNLOADING, message="", **known)
        return self._send(order, tries=FETCH_TRIES) | {"folder": order.folder}

    def _send(self, order: Order, tries: int) -> News:
        return errand.run(
            order,
            cwd=settings.BASE_DIR,
            stall=settings.MODEL_STALL_SECONDS,
            on_news=self._hear,
            go_on=self._go_on,
            tries=tries,
            floor=settings.MODEL_MIN_BYTES_PER_SECOND,
        )

    def _hear(self, news: News) -> None:
        """In another thread: only remember it."""
        self._news = {**self._news, **news}

    def _go_on(self) -> bool:
        """Asked all the time: show what the child told, and look whether we are still wanted."""
        if STOP.is_set() or not self._keeper.holds(self._held):
            return False
        if time.monotonic() - self._beat >= BEAT:
            self._beat = time.monotonic()
            try:
                self._show()
                self._look()
            except (Error, psycopg.Error) as error:  # the lease says for how long we may go on without
                log.warning("%s: the database is away: %s", self._install.uid, error)
        return True

    def _show(self) -> None:
        news = self._news
        if news == self._told:
            return
        if news.get("step") == "checking" and self._install.status != Status.CHECKING:
            self._advance(Status.CHECKING, message="", bytes_done=0, bytes_total=news.get("total", 0))
        shown = {"bytes_done": news.get("bytes", 0)}
        if "note" in news:
            shown["message"] = news["note"]
        Install.objects.filter(pk=self._install.pk, status=self._install.status).update(**shown)
        progress.hint("install", self._install.uid)
        self._told = news

    def _look(self) -> None:
        """Raises Cancelled; Stopped when somebody else changed the row."""
        row = Install.objects.filter(pk=self._install.pk, status=self._install.status)
        found = row.values_list("cancel_requested_at", flat=True)[:1]
        if not found:
            raise Stopped
        if found[0] is not None:
            raise Cancelled

    def _judge_fit(self, config: dict[str, Any], weights: int) -> None:
        """Keep the verdict; "no" ends it."""
        verdict = fitting.judge(config, weights, self._install.engine_settings)
        Install.objects.filter(pk=self._install.pk).update(fit=verdict)
        if verdict["verdict"] == fitting.NO:
            raise Refused(verdict["sentence"])

    def _hand_over(self, found: News, ready: News, base: Model | None) -> None:
        """A model that nobody can use yet: its engine has to answer first."""
        install, source = self._install, self._source
        pooling = base.runner == Model.Runner.POOLING if base else ready["pooling"]
        try:
            with transaction.atomic():
                model = Model.objects.create(
                    name=install.name,
                    path=ready["folder"],
                    source=source.repo,
                    revision=found.get("commit") or ready["revision"],
                    bytes=ready["bytes"],
                    runner=Model.Runner.POOLING if pooling else Model.Runner.GENERATE,
                    base=base,
                    project=install.project,
                    license=found.get("license") or install.license,
                    owned_by=source.repo.partition("/")[0] or "local",
                    engine_settings=install.engine_settings,
                    findings=ready["findings"],
                    ready=False,
                )
                self._advance(Status.BOOTING, model=model, revision=model.revision, message="", bytes_done=model.bytes)
                bell.ring("gpu")
        except IntegrityError as error:
            raise Failed(f"A model is called {install.name!r} by now: install it under another name.") from error

    def _token(self) -> str:
        """The project's, else the one for all."""
        tokens = HubToken.objects.filter(project=self._install.project) if self._install.project else ()
        found = next(iter(tokens), None) or HubToken.objects.filter(project=None).first()
        return found.token if found else ""

    def _end(self, status: Status, message: str, refusals: list[dict[str, str]] | None = None) -> None:
        self._advance(status, message=message, refusals=refusals or [])
        bell.ring("control")  # whose duty takes away files that nobody needs now

    def _advance(self, to: Status, **changes: Any) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            leases.fence(cursor, self._held)
            if not self._install.advance(to, **changes):
                raise Stopped
            progress.hint("install", self._install.uid)

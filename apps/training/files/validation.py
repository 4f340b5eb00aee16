"""The duties that read a job's files before it waits for a device, and take them away once it has ended.

Killed at any moment, nothing of it counts; the next control worker starts over.
"""

import errno
import logging
import time
from collections.abc import Callable

from django.conf import settings
from django.db import connection, transaction

from apps.batches.line_lists import LineList, line_list, saved
from apps.batches.models import File
from apps.core import attempts, bell, leases
from apps.core.crew import Crew
from apps.core.errors import Stopped
from apps.events import progress
from apps.events.services import announce
from apps.models.models import Model
from apps.training import endings
from apps.training.estimates import needs_of
from apps.training.files.accounts import check, warnings
from apps.training.files.preparing import DRAFTS, TRAIN, Invalid, Prepared, prepare, remove_prepared
from apps.training.files.reading import MAX_ERRORS
from apps.training.files.tokens import Count, count_tokens
from apps.training.left_out import keep_left_out
from apps.training.models import JobEvent, TrainingJob
from apps.training.presets import Data
from apps.training.services import TOPIC, note, plan_of
from apps.training.spec import Checked

PAUSE = 60.0  # seconds between two looks for files that nobody needs
NO_SPACE = "There is no space left for its prepared files: free some. It goes on by itself."

TOLD_KEYS = 12  # that a sentence names; the event's data has all
CHAT = "/v1/chat/completions"
PLAIN_TEXT = (
    "The prompts are plain text: they are learned as they stand, without the model's chat template, and are best asked "
    "of /v1/completions. For a model that chats, write prompts and answers as messages."
)
ONLY_UP = (
    "All labels are thumbs up: the model hears of no bad answer. Add some, or learn the answers with the method "
    "'supervised'."
)
ONLY_DOWN = "All labels are thumbs down: the model hears what not to say, and may say anything else. Add good ones."

Status = TrainingJob.Status

log = logging.getLogger(__name__)

_last_look = 0.0


def validate_next(keeper: leases.Keeper) -> bool:
    """Take on a job whose files nobody reads yet. Whether there was one."""
    return CREW.take_next(keeper, TrainingJob.objects.filter(status=Status.VALIDATING))


def purge_prepared(_keeper: leases.Keeper) -> bool:
    """Delete the prepared files of jobs that have ended. Once a minute is enough."""
    global _last_look  # noqa: PLW0603 - a pace, not a state: any worker may look at any time
    if time.monotonic() - _last_look < PAUSE:
        return False
    _last_look = time.monotonic()
    found = (path.parent for name in (TRAIN, f"{DRAFTS}*") for path in settings.TRAINING_DIR.glob(f"*/{name}"))
    folders = {folder.name: folder for folder in found}
    needed = TrainingJob.objects.filter(uid__in=folders, status__in=TrainingJob.OPEN).values_list("uid", flat=True)
    for uid in folders.keys() - set(needed):
        try:
            remove_prepared(folders[uid])
        except OSError as error:  # it keeps no other from going
            log.warning("%s: its prepared files stay: %s", uid, error)
    return False


def _validate(pk: int, held: leases.Held, keeper: leases.Keeper) -> None:
    jobs = TrainingJob.objects.select_related("project", "base", "training_file", "validation_file")
    job = jobs.filter(pk=pk, status=Status.VALIDATING).first()
    if job is None:
        return

    def look() -> None:
        if keeper.lost(held) or not TrainingJob.objects.filter(pk=pk, status=Status.VALIDATING).exists():
            raise Stopped

    try:
        with line_list() as bad_rows:
            _check(job, look, bad_rows, held)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            TrainingJob.objects.filter(pk=pk, status=Status.VALIDATING).update(message=NO_SPACE)
        raise
    finally:
        progress.hint(TOPIC, job.uid)


def _check(job: TrainingJob, look: Callable[[], None], bad_rows: LineList, held: leases.Held) -> None:
    try:
        if job.base is None:
            raise Invalid("model", "The model was deleted: create a job with another.", [])
        prepared = prepare(job, look, bad_rows)
        _pass(job, job.base, prepared, check(job, prepared), held)
    except Invalid as invalid:
        _refuse(job, invalid, bad_rows, held)


def _pass(job: TrainingJob, base: Model, prepared: Prepared, checked: Checked | None, held: leases.Held) -> None:
    tokens = count_tokens(checked, job.folder / TRAIN, rows=prepared.examples)
    plan = plan_of(job, base, Data(prepared.examples, tokens.tokens, tokens.exact))
    whole = prepared.examples + prepared.held_out
    options = plan.options | {"held_out_share": prepared.held_out / whole}
    job.options = options
    needs = needs_of(job, base)
    with transaction.atomic(), connection.cursor() as cursor:
        leases.fence(cursor, held)
        asked = TrainingJob.objects.select_for_update(of=("self",)).get(pk=job.pk).pause_requested_at
        moved = job.advance(
            Status.PAUSED if asked else Status.QUEUED,
            message="Paused." if asked else "",
            examples=prepared.examples,
            valid_examples=prepared.valid_examples,
            estimate=needs.parts,
            options=options,
            plan=plan.as_dict() | {"held_out": prepared.held_out},
            **keep_left_out(job),
        )
        if not moved:
            raise Stopped
        note(job, _sentence(prepared, tokens), data={"tokens": tokens.tokens, "exact": tokens.exact})
        for warning in warnings(checked) if checked else ():
            note(job, warning.sentence, level=warning.level, data=warning.data)
        if prepared.unused:
            note(job, _not_used(prepared), level=JobEvent.Level.WARN, data={"unused": prepared.unused})
        if prepared.plain_text and CHAT in base.endpoints:
            note(job, PLAIN_TEXT, level=JobEvent.Level.WARN)
        if job.method == TrainingJob.Method.KTO and not (prepared.ups and prepared.downs):
            note(job, ONLY_DOWN if prepared.downs else ONLY_UP, level=JobEvent.Level.WARN)
        note(job, plan.reason, data={"steps": plan.steps})
        if plan.warning:
            note(job, plan.warning, level=JobEvent.Level.WARN)
        if needs.warning:
            note(job, needs.warning, level=JobEvent.Level.WARN)
        bell.ring("gpu")


def _refuse(job: TrainingJob, invalid: Invalid, bad_rows: LineList, held: leases.Held) -> None:
    code, param = f"invalid_{invalid.param}", invalid.param
    name = f"{job.uid}.errors.jsonl"
    with bad_rows.stored(job.project, name) as file, transaction.atomic(), connection.cursor() as cursor:
        leases.fence(cursor, held)
        changes = {"bad_rows": bad_rows.count, "errors_file": saved(file), **keep_left_out(job)}
        lists = (bad_rows.count, file), (changes.get("left_out", 0), changes.get("left_out_file"))
        message = "".join([str(invalid), *(_all_in(*each) for each in lists)])
        if not job.advance(
            Status.FAILED, message=message, errors=invalid.errors, error_code=code, error_param=param, **changes
        ):
            raise Stopped
        note(job, message, level=JobEvent.Level.ERROR)
        announce(type="fine_tuning.job.failed", project=job.project, data={"id": job.uid})


def _all_in(rows: int, file: File | None) -> str:
    return f" The first {MAX_ERRORS} are listed here, all {rows:,} in {file.uid}." if file and rows > MAX_ERRORS else ""


def _sentence(prepared: Prepared, tokens: Count) -> str:
    apart = f", and {prepared.valid_examples:,} to validate with" if prepared.valid_examples else ""
    held_out = f" {prepared.held_out:,} more are held out: a deployment is asked them." if prepared.held_out else ""
    return f"Validated {prepared.examples:,} training examples, {tokens}{apart}.{held_out}"


def _not_used(prepared: Prepared) -> str:
    most = sorted(prepared.unused.items(), key=lambda key: (-key[1], key[0]))
    told = ", ".join(f"{key[:60]!r} ({rows:,} row{'s' * (rows != 1)})" for key, rows in most[:TOLD_KEYS])
    more = f" and {len(most) - TOLD_KEYS:,} more" if len(most) > TOLD_KEYS else ""
    return f"Keys of the file that are not used: {told}{more}. Nothing of the conversations is lost with them."


def _give_up(pk: int, why: str) -> None:
    with transaction.atomic():
        if job := TrainingJob.objects.filter(pk=pk, status=Status.VALIDATING).select_related("project").first():
            endings.fail(job, why, code=attempts.CODE)
            progress.hint(TOPIC, job.uid)


CREW = Crew("training-files", _validate, _give_up)

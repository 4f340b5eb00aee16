"""What a trainer's news become in rows: each lot in one transaction, fenced by the job's lease.

A step that is done again after a crash is measured anew; nothing else is ever written twice.
"""

from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction

from apps.core import leases
from apps.training.left_out import keep_left_out
from apps.training.models import Checkpoint, JobEvent, Metric, TrainingJob
from apps.training.services import note
from apps.training.spec import REWARDS, Evaluated, News, Saved, Started, Stepped

SPOKEN = 50  # steps of a job that become an event, about
MEASURED = ("epoch", "loss", "token_accuracy", "learning_rate", "grad_norm", "tokens_per_second", "memory_bytes")


class Ledger:
    """Of one job, as long as our lease on it lasts."""

    def __init__(self, job: TrainingJob, held: leases.Held) -> None:
        self._job, self._held = job, held
        self._tokens = 0  # that are learned in an epoch
        self._steps = job.steps or 1

    def record(self, news: Sequence[News], **changes: Any) -> None:
        """Raises `Fenced` when the job is ours no more, or has ended."""
        with transaction.atomic():
            self.fence()
            for each in news:
                changes |= self._take(each)
            self._keep([each for each in news if isinstance(each, Stepped)])
            going = TrainingJob.objects.filter(pk=self._job.pk).exclude(status__in=TrainingJob.ENDED)
            if not going.update(**changes):
                raise leases.Fenced(self._held.key)
        self._job.refresh_from_db()

    def fence(self) -> None:
        """Call it within a transaction. Raises `Fenced`."""
        with connection.cursor() as cursor:
            leases.fence(cursor, self._held)

    def _take(self, news: News) -> dict[str, Any]:
        """What it changes on the job's row."""
        match news:
            case Started():
                return self._begin(news)
            case Stepped():
                self._speak(news)
                return {"step": news.step, "trained_tokens": round(news.epoch * self._tokens)}
            case Evaluated():
                values = {"valid_loss": news.loss, "valid_token_accuracy": news.token_accuracy}
                values |= {f"valid_{name}": news.rewards.get(name) for name in REWARDS}
                Metric.objects.update_or_create(job=self._job, step=news.step, defaults=values)
            case Saved():
                return {"tries": 0} if self._save(news) else {}
        return {}

    def _begin(self, news: Started) -> dict[str, Any]:
        self._tokens, self._steps = news.trained_tokens, news.steps or 1
        again = f", from the checkpoint of step {news.resumed_from:,}" if news.resumed_from else ""
        cut = f" {news.cut:,} of them are longer than max_length and were cut." if news.cut else ""
        out = f" {news.left_out:,} more are left out: the job's list says which, and why." if news.left_out else ""
        note(
            self._job,
            f"Training with {news.backend} {news.version}{again}: {news.examples:,} examples, {news.tokens:,} tokens, "
            f"{news.steps:,} steps.{cut}{out}",
        )
        if news.up_weight:
            found = {"up": news.ups, "down": news.downs, "up_weight": news.up_weight, "down_weight": news.down_weight}
            note(self._job, _thumbs(news), data=found)
        return {
            "backend": news.backend,
            "backend_version": news.version,
            "steps": news.steps,
            "step": news.resumed_from,
            **keep_left_out(self._job),
        }

    def _save(self, news: Saved) -> bool:
        """Whether it is new: a trainer that goes on tells anew which checkpoints there are."""
        where = {"path": news.folder, "digest": news.digest, "bytes": news.bytes}
        _, new = Checkpoint.objects.update_or_create(job=self._job, step=news.step, defaults=where)
        if new:
            note(self._job, f"Checkpoint created at step {news.step:,}.", data={"step": news.step})
        return new

    def _keep(self, steps: list[Stepped]) -> None:
        rows = {each.step: Metric(job=self._job, step=each.step, **_measured(each)) for each in steps}
        Metric.objects.bulk_create(
            rows.values(), update_conflicts=True, unique_fields=["job", "step"], update_fields=[*MEASURED, *REWARDS]
        )

    def _speak(self, news: Stepped) -> None:
        if news.step % max(self._steps // SPOKEN, 1):
            return
        data = {"step": news.step, "train_loss": news.loss, "train_mean_token_accuracy": news.token_accuracy}
        data |= {f"train_{name}": value for name, value in news.rewards.items()}
        JobEvent.objects.create(
            job=self._job,
            type="metrics",
            message=f"Step {news.step}/{self._steps}: training loss={news.loss:.2f}",
            data=data,
        )


def _measured(news: Stepped) -> dict[str, Any]:
    """Rewards that this step lacks are none, also where it was measured before."""
    return {name: getattr(news, name) for name in MEASURED} | {name: news.rewards.get(name) for name in REWARDS}


def _thumbs(news: Started) -> str:
    up, down = news.ups * news.up_weight, news.downs * news.down_weight
    alike = ", so that both kinds count alike in all" if up and 0.99 < down / up < 1.01 else ""
    return (
        f"{news.ups:,} thumbs up, each with the weight {news.up_weight:g}, and {news.downs:,} thumbs down, each with "
        f"the weight {news.down_weight:g}{alike}."
    )

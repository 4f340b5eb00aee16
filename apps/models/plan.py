"""Which job a slot serves next: a pure function, so that it can be reasoned about and simulated."""

from collections.abc import Sequence

from apps.models.jobs import Job


def choose(jobs: Sequence[Job], *, resident: int | None, quantum_over: bool) -> Job | None:
    """The job to serve: highest priority, then the resident model (until its quantum is over), then who waits longest.

    `resident` is the id of the model whose engine is warm on this slot. Swapping costs a cold start, so equal jobs
    never swap it out before its quantum ends.
    """

    def rank(job: Job) -> tuple[int, bool, float]:
        keeps_engine = job.model_id == resident and not quantum_over
        return (-job.priority, not keeps_engine, job.since.timestamp())

    return min(jobs, key=rank, default=None)

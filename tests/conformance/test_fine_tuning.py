"""Fine-tuning with the stock client. Files are really read, and jobs go through a trainer that learns nothing."""

import csv
import io
import time
from collections.abc import Sequence
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.conformance.lines import CHAT_MODEL, EMBEDDING_MODEL
from tests.conformance.site import PATIENCE, Site
from tests.training.cast import example, jsonl, preference

pytestmark = pytest.mark.live

ENDED = ("succeeded", "failed", "cancelled")
LONG = {"options": {"max_steps": 5_000}}  # that some other test would have to wait for


def upload(site: Site, rows: Sequence[Any], role: str = "owner") -> str:
    client = site.client(role)
    return client.files.create(file=("train.jsonl", jsonl(rows)), purpose="fine-tune").id


@pytest.fixture(scope="module")
def file_id(site: Site) -> str:
    return upload(site, [example(number) for number in range(12)])


def create(site: Site, file_id: str, **parameters: Any) -> FineTuningJob:
    wanted: dict[str, Any] = {"model": CHAT_MODEL, "training_file": file_id, **parameters}
    return site.client().fine_tuning.jobs.create(**wanted)


def wait(site: Site, job: FineTuningJob, *statuses: str, step: int = 0) -> Any:
    """The job, once it has one of the statuses and has come so far."""
    deadline = time.monotonic() + PATIENCE
    while True:
        now: Any = site.client().fine_tuning.jobs.retrieve(job.id)
        if now.status in (statuses or ENDED) and now.step >= step:
            return now
        assert now.status not in ENDED, now
        assert time.monotonic() < deadline, now
        time.sleep(0.1)


@pytest.fixture(scope="module")
def trained(site: Site, file_id: str) -> FineTuningJob:
    job = create(site, file_id, suffix="capitals", seed=7, metadata={"team": "a"}, validation_file=file_id)
    assert job.status in ("validating_files", "queued", "running")
    assert (job.fine_tuned_model, job.finished_at, job.trained_tokens, job.result_files) == (None, None, None, [])
    ended: FineTuningJob = wait(site, job)
    return ended


def test_it_works(site: Site, trained: FineTuningJob, file_id: str) -> None:
    assert trained.id.startswith("ftjob-")
    assert (trained.status, trained.error, trained.seed, trained.metadata) == ("succeeded", None, 7, {"team": "a"})
    assert (trained.model, trained.training_file, trained.validation_file) == (CHAT_MODEL, file_id, file_id)
    assert trained.fine_tuned_model is not None
    base, organisation, suffix, last = trained.fine_tuned_model.removeprefix("ft:").split(":")
    assert (base, suffix, last) == (CHAT_MODEL, "capitals", trained.id[-8:])
    assert organisation in trained.organization_id
    assert trained.finished_at is not None
    assert trained.finished_at >= trained.created_at
    assert trained.trained_tokens
    found = trained.hyperparameters  # from the rows: 6 steps of 2 rows make an epoch, and rows so short take 200 steps
    assert (found.n_epochs, found.batch_size, found.learning_rate_multiplier) == (34, 2, "auto")
    assert trained.method is not None
    assert trained.method.type == "supervised"
    assert trained.method.supervised is not None
    assert (trained.integrations, trained.estimated_finish) == ([], None)


def test_events_are_paged_through(site: Site, trained: FineTuningJob) -> None:
    jobs = site.client().fine_tuning.jobs
    paged = list(jobs.list_events(trained.id, limit=2))
    assert len(paged) >= 4
    assert paged == jobs.list_events(trained.id, limit=1000).data
    told = [event.message for event in reversed(paged)]
    assert told[0].startswith("Created fine-tuning job")
    assert told[1].startswith("Validated 12 training examples, about ")
    assert told[-1] == "The job has successfully completed."
    assert {event.level for event in paged} == {"info"}


def test_checkpoints_are_paged_through(site: Site, trained: FineTuningJob) -> None:
    paged = list(site.client().fine_tuning.jobs.checkpoints.list(trained.id, limit=2))
    assert [each.step_number for each in paged] == [20, 16, 12, 8, 4]
    for each in paged:
        assert each.fine_tuning_job_id == trained.id
        assert each.fine_tuned_model_checkpoint == f"{trained.fine_tuned_model}:ckpt-step-{each.step_number}"
        assert each.metrics.step == each.step_number
        assert each.metrics.train_loss is not None
        assert each.metrics.full_valid_loss is not None
        assert each.metrics.full_valid_loss == each.metrics.valid_loss
        assert 0 < (each.metrics.train_mean_token_accuracy or 0) < 1


def test_the_result_file(site: Site, trained: FineTuningJob) -> None:
    (uid,) = trained.result_files
    file = site.client().files.retrieve(uid)
    assert (file.purpose, file.expires_at) == ("fine-tune-results", None)
    content = site.client().files.content(uid).read()
    assert len(content) == file.bytes
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [int(row["step"]) for row in rows] == list(range(1, 21))
    assert list(rows[0]) == ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert (rows[0]["valid_loss"], float(rows[3]["valid_loss"]) > 0) == ("", True)


async def test_it_works_asynchronously(site: Site, file_id: str) -> None:
    async with site.async_client() as client:
        job = await client.fine_tuning.jobs.create(model=CHAT_MODEL, training_file=file_id)
        wait(site, job)
        ended = await client.fine_tuning.jobs.retrieve(job.id)
        assert ended.status == "succeeded"
        assert [each async for each in client.fine_tuning.jobs.list(limit=1) if each.id == job.id] == [ended]
        assert [event async for event in client.fine_tuning.jobs.list_events(job.id, limit=1)]
        with pytest.raises(openai.ConflictError):
            await client.fine_tuning.jobs.cancel(job.id)


def test_dpo(site: Site) -> None:
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 2}}}
    job = create(site, upload(site, [preference(number) for number in range(12)]), method=method)
    assert job.method is not None
    assert (job.method.type, job.method.supervised) == ("dpo", None)
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    assert (job.method.dpo.hyperparameters.beta, job.method.dpo.hyperparameters.n_epochs) == (0.2, 2)
    assert wait(site, job).status == "succeeded"


def test_a_bad_file_is_told_by_its_lines(site: Site) -> None:
    rows = [*(example(number) for number in range(10)), b"{no", {"messages": []}]
    job = wait(site, create(site, upload(site, rows)))
    assert (job.status, job.fine_tuned_model) == ("failed", None)
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "Line 11: It is not valid JSON" in job.error.message
    assert [(error["line"], error["code"]) for error in job.file_errors] == [
        (11, "invalid_json"),
        (12, "empty_messages"),
    ]
    events = site.client().fine_tuning.jobs.list_events(job.id).data
    assert (events[0].level, events[0].message) == ("error", job.error.message)


def test_cancel_while_it_runs(site: Site, file_id: str) -> None:
    job = create(site, file_id, extra_body=LONG)
    wait(site, job, "running", step=3)
    site.client().fine_tuning.jobs.cancel(job.id)
    cancelled = wait(site, job, "cancelled")
    assert (cancelled.fine_tuned_model, cancelled.error) == (None, None)
    assert cancelled.finished_at is not None
    assert site.client().fine_tuning.jobs.cancel(job.id).status == "cancelled"


def test_pause_and_resume(site: Site, file_id: str) -> None:
    """OpenAI has no status for it: a paused job is shown as one that waits."""
    jobs = site.client().fine_tuning.jobs
    job = create(site, file_id, extra_body={"options": {"max_steps": 250, "save_steps": 250}})
    wait(site, job, "running", step=3)
    assert jobs.pause(job.id).to_dict()["paused"] is True
    paused = wait(site, job, "queued")
    assert paused.paused
    with pytest.raises(openai.ConflictError):
        jobs.pause(job.id)
    resumed: Any = jobs.resume(job.id)
    assert not resumed.paused
    with pytest.raises(openai.ConflictError):
        jobs.resume(job.id)
    ended = wait(site, job)
    assert (ended.status, ended.step) == ("succeeded", 250)
    told = [event.message for event in jobs.list_events(job.id, limit=1000)]
    assert "The job goes on." in told
    checkpoints = [each.step_number for each in jobs.checkpoints.list(job.id, limit=100)]
    assert checkpoints[0] == 250
    assert checkpoints[-1] < 250  # what it saved when it was paused


def test_the_list_is_paged_through_and_filtered(site: Site) -> None:
    file, client = upload(site, [example(1)], "stranger"), site.client("stranger").fine_tuning.jobs
    kinds: list[dict[str, str] | None] = [{"team": "a"}, None, {"team": "a", "run": "2"}, {}, {"team": ""}]
    made = [client.create(model=CHAT_MODEL, training_file=file, metadata=metadata).id for metadata in kinds]
    assert [job.id for job in client.list(limit=2)] == made[::-1]
    assert [job.id for job in client.list(limit=2, after=made[3])] == made[2::-1]
    assert [job.id for job in client.list(metadata={"team": "a"})] == [made[2], made[0]]
    assert [job.id for job in client.list(metadata={"team": "a", "run": "2"})] == [made[2]]
    assert [job.id for job in client.list(metadata={"team": ""})] == [made[4]]
    assert [job.id for job in client.list(extra_query={"metadata": "null"})] == [made[1]]


def test_progress_streams_until_the_job_has_ended(site: Site, file_id: str) -> None:
    job = create(site, file_id)
    with site.http().stream("GET", f"/fine_tuning/jobs/{job.id}/progress") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        kinds = [line.removeprefix("event: ") for line in answer.iter_lines() if line.startswith("event: ")]
    assert kinds[-1] == "done"
    assert set(kinds[:-1]) == {"progress"}


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": "nowhere"}, "model", "model_not_found"),
        ({"model": EMBEDDING_MODEL}, "model", None),
        ({"training_file": "file-nowhere"}, "training_file", "file_not_found"),
        ({"validation_file": "file-nowhere"}, "validation_file", "file_not_found"),
        ({"suffix": "a b"}, "suffix", None),
        ({"seed": -1}, "seed", "invalid_value"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations", "unsupported"),
        ({"method": {"type": "reinforcement"}}, "method.type", "unsupported"),
        ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs", "invalid_value"),
        ({"hyperparameters": {"batch_size": 0}}, "hyperparameters.batch_size", "invalid_value"),
        ({"metadata": {"k" * 65: "v"}}, "metadata", "invalid_value"),
    ],
)
def test_it_rejects(site: Site, file_id: str, change: dict[str, Any], param: str, code: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        create(site, file_id, **change)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_it_rejects_what_is_not_there(site: Site, trained: FineTuningJob) -> None:
    for client, uid in ((site.client(), "ftjob-nowhere"), (site.client("stranger"), trained.id)):
        jobs = client.fine_tuning.jobs
        for call in (jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events, jobs.checkpoints.list):
            with pytest.raises(openai.NotFoundError):
                call(uid)

"""The commands of fine-tuning: they call the services, wait, and say what to do."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apps.accounts.models import Project
from apps.batches.models import File
from apps.core import leases
from apps.datasets.exports.job import KIND
from apps.models.models import Model
from apps.training.models import Checkpoint, Deployment, TrainingJob
from tests.datasets.exports import starred_run
from tests.training.cast import example, jsonl, make_file
from tests.training.deploying import make_base, make_checkpoint

pytestmark = pytest.mark.django_db(transaction=True)

Status = TrainingJob.Status
PARITY: dict[str, Any] = {
    "prompts": [{"messages": [{"role": "user", "content": "What [is] 1 + 1?"}]}, {"prompt": "One"}],
    "base": ["I do not know.", " two"], "adapter": ["It is 2.", " three"], "passed": True,
    "sentence": "2 of 2 prompts are answered differently than by the base model.",
}  # fmt: skip


def run(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


@contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Again and again until the block ends, in another thread."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.05):
            act()
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.fixture
def base(tmp_path: Path, settings: Any) -> Model:
    settings.TRAINING_DIR = tmp_path / "training"
    return make_base(tmp_path / "base")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(jsonl(map(example, range(12))))
    return path


def end_jobs(**values: Any) -> Callable[[], object]:
    return lambda: TrainingJob.objects.exclude(status__in=TrainingJob.ENDED).update(
        ended_at="2026-01-01T00:00:00Z", **values
    )


def test_it_works(project: Project, base: Model, path: Path) -> None:
    with meanwhile(end_jobs(status=Status.SUCCEEDED, message="Trained 10 steps.", step=10, steps=10)):
        uid = run("train", str(path), "--model", "base", "--set", "rank=8", "--set", 'targets=["q_proj"]')
    job = TrainingJob.objects.get(uid=uid)
    assert (job.project, job.base, job.options["rank"], job.options["targets"]) == (project, base, 8, ["q_proj"])
    assert job.training_file
    assert (job.training_file.filename, job.training_file.purpose) == ("rows.jsonl", "fine-tune")


def test_it_says_why_it_is_trained_so(
    project: Project, base: Model, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = {"steps": 15, "reason": "40 rows make 15 steps.", "warning": "15 [b]steps[/b] can hardly teach."}
    with meanwhile(end_jobs(status=Status.SUCCEEDED, message="Trained.", step=10, steps=10, plan=plan)):
        run("train", str(path), "--model", "base", "--set", "epochs=3")
    said = " ".join(capfd.readouterr().err.split())
    assert said.count("40 rows make 15 steps. 15 [b]steps[/b] can hardly teach.") == 1


def test_it_trains_on_a_file_that_is_here(project: Project, base: Model, path: Path) -> None:
    file = make_file(project)
    words = ["--method", "sft", "--technique", "full", "--suffix", "mine", "--validation", str(path), "--no-wait"]
    job = TrainingJob.objects.get(uid=run("train", file.uid, "--model", "base", *words))
    assert (job.training_file, job.technique, job.suffix) == (file, "full", "mine")
    assert job.validation_file
    assert job.validation_file.filename == "rows.jsonl"


def test_it_trains_on_the_stars_of_a_dataset(project: Project, base: Model) -> None:
    starred_run(project)
    keeper = leases.Keeper()
    with meanwhile(lambda: KIND.duty(keeper)):
        job = TrainingJob.objects.get(uid=run("train", "capitals", "--model", "base", "--no-wait"))
        assert KIND.crew.wait(30)
    keeper.close()
    assert job.export
    assert (job.export.format, job.training_file) == ("chat", job.export.file)
    again = TrainingJob.objects.get(uid=run("train", job.export.uid, "--model", "base", "--no-wait"))
    assert again.training_file == job.training_file


def test_it_fails_when_the_job_does(
    project: Project, base: Model, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    errors = [{"file": "file-1", "line": 3, "code": "x", "message": "It [is] no JSON object."}]
    ended = end_jobs(status=Status.FAILED, message="One line cannot be used.", errors=errors)
    with meanwhile(ended), pytest.raises(CommandError, match=r"is failed\. One line cannot be used\."):
        run("train", str(path), "--model", "base")
    assert "file-1, line 3: It [is] no JSON object." in capfd.readouterr().err


def test_lists_of_rows_are_printed(
    project: Project, base: Model, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [{"line": line, "reason": "it is [too] long."} for line in (3, 5)]
    bad, left_out = (make_file(project, each, purpose="user_data") for each in (rows[:1], rows))
    errors = [{"file": "file-1", "line": 3, "code": "x", "message": "It is no JSON object."}]
    ended = end_jobs(
        status=Status.FAILED, message="No.", errors=errors, bad_rows=120, errors_file=bad, left_out=2,
        left_out_file=left_out,
    )  # fmt: skip
    with meanwhile(ended), pytest.raises(CommandError):
        run("train", str(path), "--model", "base")
    job = TrainingJob.objects.get()
    said = " ".join(capfd.readouterr().err.split())
    assert f"The first of 120. All of them: manage.py training_jobs --bad-rows {job.uid}" in said
    assert f"2 rows were left out. Which, and why: manage.py training_jobs --left-out {job.uid}" in said
    assert run("training_jobs", "--bad-rows", job.uid) == json.dumps(rows[0])
    assert [json.loads(line) for line in run("training_jobs", "--left-out", job.uid).splitlines()] == rows
    TrainingJob.objects.update(left_out_file=None)
    with pytest.raises(CommandError, match="has no such list"):
        run("training_jobs", "--left-out", job.uid)
    bad.content.storage.delete(str(bad.content))
    with pytest.raises(CommandError, match="Cannot read the list"):
        run("training_jobs", "--bad-rows", job.uid)


REFUSED: dict[str, Any] = {
    "model": (["--model", "nobody"], "There is no model 'nobody'"),
    "set": (["--model", "base", "--set", "rank"], "--set takes KEY=VALUE, not 'rank'."),
    "option": (["--model", "base", "--set", "rank=0"], "rank cannot be 0"),
    "suffix": (["--model", "base", "--suffix", "a b"], "A suffix has 1 to 64 letters"),
    "validation": (["--model", "base", "--validation", "/no/such"], "Cannot read /no/such"),
    "project": (["--model", "base", "--project", "nobody"], "There is no project 'nobody'."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_rejects(project: Project, base: Model, path: Path, case: str) -> None:
    words, sentence = REFUSED[case]
    with pytest.raises(CommandError) as refused:
        run("train", str(path), *words, "--no-wait")
    assert str(refused.value).startswith(sentence)
    assert not TrainingJob.objects.exists()


def test_it_rejects_a_source_that_is_nothing(project: Project, base: Model) -> None:
    with pytest.raises(CommandError, match="There is no dataset 'nothing'"):
        run("train", "nothing", "--model", "base")
    assert not File.objects.exists()


def test_jobs_are_listed(project: Project, base: Model, capsys: pytest.CaptureFixture[str]) -> None:
    job = make_checkpoint(project, base).job
    run("training_jobs", "--status", "succeeded", "--project", project.name)
    assert job.uid[:12] in capsys.readouterr().out
    run("training_jobs", "--status", "failed")
    assert job.uid[:12] not in capsys.readouterr().out


def test_jobs_are_cancelled(project: Project, base: Model, path: Path) -> None:
    uid = run("train", str(path), "--model", "base", "--no-wait")
    run("cancel_training", uid)
    assert TrainingJob.objects.get().status == Status.CANCELLED
    with pytest.raises(CommandError, match=f"Ended, or cancelled before: {uid}"):
        run("cancel_training", uid)
    with pytest.raises(CommandError, match="There is no job 'ftjob-x'"):
        run("cancel_training", "ftjob-x")


@pytest.fixture
def checkpoint(project: Project, base: Model) -> Checkpoint:
    return make_checkpoint(project, base)


def end_deployments(**values: Any) -> Callable[[], object]:
    return lambda: Deployment.objects.filter(status__in=Deployment.GOING).update(parity=PARITY, **values)


def test_a_result_is_deployed(checkpoint: Checkpoint, capfd: pytest.CaptureFixture[str]) -> None:
    with meanwhile(end_deployments(status="ready")):
        name = run("deploy_model", checkpoint.job.uid, "--kind", "merged")
    deployment = Deployment.objects.get()
    assert (deployment.name, deployment.kind, deployment.checkpoint) == (name, "merged", checkpoint)
    shown = capfd.readouterr().err
    for text in ("2 of 2 prompts are answered differently", "What [is] 1 + 1?", "I do not know.", "three"):
        assert text in shown


def test_it_is_deployed_with_a_judge(
    checkpoint: Checkpoint, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    make_base(tmp_path / "judge", "judge")
    score = {"exact": 0, "matched": 2, "loss": 2.5, "unended": 0, "judged": 4.25, "scored": 7}
    figures = {"unseen": {"asked": 7, "base": score, "tuned": score}, "sentence": "It learned."}
    with meanwhile(lambda: Deployment.objects.update(parity=PARITY | figures, status="ready")):
        run("deploy_model", checkpoint.job.uid, "--judge", "judge", "--rubric", "Be strict.")
    deployment = Deployment.objects.get()
    assert (deployment.judge_name, deployment.rubric) == ("judge", "Be strict.")
    shown = capfd.readouterr().err
    assert "the judge" in shown
    assert "4.25" in shown
    with pytest.raises(CommandError, match=r"no model 'nobody' that could judge\. Models: base, judge"):
        run("deploy_model", checkpoint.job.uid, "--judge", "nobody")
    with pytest.raises(CommandError, match="A rubric needs a judge"):
        run("deploy_model", checkpoint.job.uid, "--rubric", "Be strict.")


def test_what_was_refused_says_why(checkpoint: Checkpoint) -> None:
    refused = end_deployments(status="refused", message="It behaves like the base.")
    with meanwhile(refused), pytest.raises(CommandError, match=r"tuned is refused\. It behaves like the base\."):
        run("deploy_model", checkpoint.job.uid, "--name", "tuned")


def test_what_is_unproven_shows_its_figures_and_is_accepted(
    checkpoint: Checkpoint, capfd: pytest.CaptureFixture[str]
) -> None:
    score = {"exact": 0, "matched": 2, "loss": 2.517, "unended": 0}
    figures = {"verdict": "changed", "unseen": {"asked": 7, "base": score, "tuned": score}, "sentence": "It changed."}

    def compared() -> object:
        model, _ = Model.objects.get_or_create(name="tuned", path="/x", base=checkpoint.job.base, ready=False)
        going = Deployment.objects.filter(status__in=Deployment.GOING)
        return going.update(parity=PARITY | figures, status="unproven", message="It changed.", model=model)

    with (
        meanwhile(compared),
        pytest.raises(CommandError, match=r"tuned is unproven\. It changed\. Accept it: manage.py"),
    ):
        run("deploy_model", checkpoint.job.uid, "--name", "tuned")
    shown = capfd.readouterr().err
    for text in ("7 kept apart", "2 of 7", "2.517"):
        assert text in shown
    assert run("accept_deployment", "tuned") == "tuned"
    assert Deployment.objects.get().status == "ready"
    with pytest.raises(CommandError, match="tuned is ready: there is nothing to accept"):
        run("accept_deployment", "tuned")


def test_a_checkpoint_is_deployed_by_its_step(checkpoint: Checkpoint) -> None:
    run("deploy_model", checkpoint.job.uid, "--step", "10", "--no-wait")
    assert Deployment.objects.get().checkpoint == checkpoint
    for words, says in {("--step", "3"): "has no checkpoint of step 3. Checkpoints for --step: 10."}.items():
        with pytest.raises(CommandError) as refused:
            run("deploy_model", checkpoint.job.uid, *words)
        assert says in str(refused.value)
    with pytest.raises(CommandError, match="is queued already"):
        run("deploy_model", checkpoint.job.uid)


def test_it_is_taken_back(checkpoint: Checkpoint) -> None:
    name = run("deploy_model", checkpoint.job.uid, "--name", "tuned", "--no-wait")
    run("undeploy_model", name)
    assert Deployment.objects.get().status == "undeployed"
    with pytest.raises(CommandError, match="tuned is undeployed: there is nothing to take back"):
        run("undeploy_model", "tuned")
    with pytest.raises(CommandError, match="There is no earlier tuned whose files are kept"):
        run("undeploy_model", "tuned", "--roll-back")
    with pytest.raises(CommandError, match=r"There is no deployment 'x'\. Deployments: tuned"):
        run("undeploy_model", "x")

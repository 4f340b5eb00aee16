"""The commands' own part: arguments, bars, sentences, exit codes. The services behind them have tests of their own."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone

from apps.accounts.models import ApiKey, Project
from apps.batches import console
from apps.batches.finalize import finalize_next, notice_ended
from apps.batches.models import Batch, Request, Result, Shard
from apps.batches.validate import validate_next
from apps.core.leases import Keeper
from apps.events import progress
from apps.models.models import Model
from tests.events.cast import complete, member, running_batch

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL", 0.3)
    monkeypatch.setenv("COLUMNS", "200")


def run(name: str, *arguments: Any) -> str:
    out = StringIO()
    call_command(name, *map(str, arguments), stdout=out, stderr=out)
    return out.getvalue()


def jsonl(folder: Path, *, lines: int = 3, model: str = "test-model") -> Path:
    path = folder / "input.jsonl"
    messages = [{"role": "user", "content": "Say yes."}]
    path.write_text(
        "".join(
            json.dumps(
                {
                    "custom_id": f"line-{number}",
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": {"model": model, "messages": messages},
                }
            )
            + "\n"
            for number in range(lines)
        )
    )
    return path


class Workers(threading.Thread):
    """The control workers' duties, and a GPU worker that answers every line, beside the command."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()
        self.failing = 0
        """How many of a batch's lines fail, from the first."""

    def run(self) -> None:
        keeper = Keeper()
        while not self.over.wait(0.1):
            validate_next(keeper)
            self.answer_all()
            notice_ended(keeper)
            finalize_next(keeper)
        keeper.close()
        connections.close_all()

    def answer_all(self) -> None:
        for request in Request.objects.filter(batch__status="in_progress", batch__results=None):
            fails = request.line <= self.failing
            Result.objects.create(
                batch=request.batch,
                line=request.line,
                custom_id=request.custom_id,
                failed=fails,
                status_code=400 if fails else 200,
                body='{"error":{"message":"Too long."}}' if fails else '{"answer":"yes"}',
            )
        for shard in Shard.objects.filter(batch__status="in_progress"):
            answered = {"completed": shard.lines - self.failing, "failed": self.failing}
            Shard.objects.filter(pk=shard.pk).update(**answered, output_tokens=10)


@pytest.fixture
def workers(transactional_db: None) -> Iterator[Workers]:
    workers = Workers()
    workers.start()
    yield workers
    workers.over.set()
    workers.join()


def test_it_works(workers: Workers, project: Project, model: Model, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    said = run("submit_batch", jsonl(tmp_path), "--output", output, "--priority", 7)
    batch = Batch.objects.get()
    assert (batch.project, batch.priority, batch.status) == (project, 7, "completed")
    assert said.splitlines() == [batch.uid, f"The answers are in {output}."]
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["line-0", "line-1", "line-2"]


def test_submit_batch_does_not_wait_unless_told(project: Project, tmp_path: Path) -> None:
    assert run("submit_batch", jsonl(tmp_path)).strip() == Batch.objects.get().uid


def test_submit_batch_shows_what_is_wrong_with_the_input(
    workers: Workers, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = jsonl(tmp_path, model="unknown")
    path.write_text(path.read_text() + "not JSON\n")
    with pytest.raises(CommandError, match="is failed: The input file has errors") as failed:
        run("submit_batch", path, "--wait")
    assert failed.value.returncode == 1
    table = capsys.readouterr().out
    for error in Batch.objects.get().errors or []:
        assert str(error["line"]) in table
        assert error["code"] in table


def test_submit_batch_leaves_the_batch_running_on_ctrl_c(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pressed(uid: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(console, "_follow", pressed)
    with pytest.raises(CommandError, match="goes on") as stopped:
        run("submit_batch", jsonl(tmp_path), "--wait")
    assert stopped.value.returncode == 130
    assert Batch.objects.get().status == "validating"


def test_submit_batch_says_which_of_several_projects_it_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        Project.objects.create(name=name)
    run("submit_batch", jsonl(tmp_path))
    assert "In project one, the oldest; --project NAME takes another." in capsys.readouterr().err
    run("submit_batch", jsonl(tmp_path), "--project", "two")
    assert [batch.project.name for batch in Batch.objects.order_by("pk")] == ["one", "two"]
    assert capsys.readouterr().err == ""
    with pytest.raises(CommandError, match=r"There is no project 'three'\. Projects: one, two\."):
        run("submit_batch", jsonl(tmp_path), "--project", "three")


@pytest.mark.parametrize("failed", [1, 3])
def test_submit_batch_tells_by_its_exit_code_that_lines_failed(
    workers: Workers, project: Project, model: Model, tmp_path: Path, failed: int
) -> None:
    workers.failing = failed
    output = tmp_path / "answers.jsonl"
    with pytest.raises(CommandError, match=rf"^{failed} of 3 requests of batch_\w+ failed; the first is") as error:
        run("submit_batch", jsonl(tmp_path), "--output", output)
    assert error.value.returncode == console.LINES_FAILED
    assert "Too long." in str(error.value)
    assert output.exists() == (failed < 3)  # what was answered is kept


def test_submit_batch_rejects_what_cannot_work(project: Project, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    for arguments, sentence in [
        ((tmp_path / "missing.jsonl",), "Cannot read .*: No such file"),
        ((tmp_path,), "Is a directory"),
        ((tmp_path / "empty.jsonl",), "empty"),
        ((jsonl(tmp_path), "--output", tmp_path / "no" / "folder"), "There is no folder"),
    ]:
        with pytest.raises(CommandError, match=sentence):
            run("submit_batch", *arguments)
    assert not Batch.objects.exists()


def test_batches_works(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    running, ended = running_batch(project), running_batch(project, total=1234)
    complete(ended)
    run("batches")
    table = capsys.readouterr().out
    assert running.uid in table
    assert "1,234/1,234" in table
    run("batches", "--status", "completed", "--limit", 5)
    table = capsys.readouterr().out
    assert running.uid not in table
    assert ended.uid in table


def test_batches_costs_one_query(project: Project, django_assert_num_queries: Any) -> None:
    for _ in range(5):
        running_batch(project)
    with django_assert_num_queries(1):
        run("batches")


def test_cancel_batch_works(workers: Workers, project: Project) -> None:
    batch = running_batch(project, total=3, paused_at=timezone.now())
    assert f"{batch.uid} is cancel" in run("cancel_batch", batch.uid)


def test_cancel_batch_waits(project: Project) -> None:
    batch = running_batch(project)

    def cancelled() -> None:
        Batch.objects.filter(pk=batch.pk).update(status="cancelled")
        connections.close_all()

    finish = threading.Timer(0.5, cancelled)
    finish.start()
    assert run("cancel_batch", batch.uid, "--wait").strip() == f"{batch.uid} is cancelled."
    finish.join()


def test_cancel_batch_rejects_what_has_ended(project: Project) -> None:
    batch = running_batch(project)
    complete(batch)
    with pytest.raises(CommandError, match="is completed already"):
        run("cancel_batch", batch.uid)
    with pytest.raises(CommandError, match="no batch 'batch_unknown'"):
        run("cancel_batch", "batch_unknown")


def test_retry_batch_works(project: Project, model: Model) -> None:
    batch = running_batch(project, total=1, model=model)
    Request.objects.create(batch=batch, line=1, custom_id="line-1", body="{}")
    Result.objects.create(batch=batch, line=1, failed=True, error_code="engine_crash")
    complete(batch)
    uid = run("retry_batch", batch.uid).strip()
    assert Batch.objects.get(uid=uid).retry_of == batch


def test_retry_batch_rejects_what_still_runs(project: Project) -> None:
    with pytest.raises(CommandError, match="once it has ended"):
        run("retry_batch", running_batch(project).uid)


def test_create_key_works(project: Project) -> None:
    ApiKey.objects.all().delete()
    mia, out = member(project), StringIO()
    call_command(
        "create_key", project.name, "laptop", "--scopes", "batches.read", "files.read", "--models", "test-model",
        "--expires-days", "30", "--user", "mia", stdout=out, stderr=StringIO(),
    )  # fmt: skip
    key = ApiKey.objects.get()
    assert key.digest == ApiKey.digest_of(out.getvalue().strip())  # a script reads the secret and nothing else
    assert (key.project, key.name, key.scopes) == (project, "laptop", ["batches.read", "files.read"])
    assert key.created_by == mia
    assert key.allowed_models == ["test-model"]
    assert key.expires_at is not None
    assert timedelta(days=29) < key.expires_at - timezone.now() <= timedelta(days=30)


def test_create_key_rejects_what_does_not_exist(project: Project) -> None:
    with pytest.raises(CommandError, match=f"no project 'nobody'. Projects: {project.name}"):
        run("create_key", "nobody", "laptop")
    with pytest.raises(CommandError, match="Unknown scope 'everything'"):
        run("create_key", project.uid, "laptop", "--scopes", "everything")
    with pytest.raises(CommandError, match="no user 'nobody'"):
        run("create_key", project.uid, "laptop", "--user", "nobody")

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn

from apps.accounts.models import Project
from apps.models.installs.console import FIGURES, show_step, wait_for
from apps.models.models import HubToken, Install, Model

pytestmark = pytest.mark.django_db(transaction=True)


def install(*arguments: Any) -> Install:
    output = StringIO()
    call_command("install_model", *arguments, stdout=output)
    return Install.objects.get(uid=output.getvalue().strip())


def end(new: Install, **values: Any) -> Install:
    Install.objects.filter(pk=new.pk).update(ended_at="2026-01-01T00:00:00Z", **values)
    return new


def test_it_works(capfd: pytest.CaptureFixture[str]) -> None:
    new = install("acme/tiny", "--name", "tiny")
    assert (new.source, new.name, new.project, new.status) == ("acme/tiny", "tiny", None, "queued")
    wait_for(end(new, status="ready"))


def test_it_says_why_it_was_refused(capfd: pytest.CaptureFixture[str]) -> None:
    refusals = [{"file": "model.bin", "reason": "It [is] a pickle."}]
    new = end(install("acme/tiny"), status="refused", message="Not admitted.", refusals=refusals)
    with pytest.raises(CommandError, match=r"acme/tiny is refused: Not admitted\."):
        wait_for(new)
    assert "model.bin: It [is] a pickle." in capfd.readouterr().err


def test_a_token_comes_from_a_file_and_is_kept(tmp_path: Path, project: Project) -> None:
    (tmp_path / "token").write_text("hf_something_secret\n")
    new = install("acme/tiny", "--token-file", str(tmp_path / "token"), "--project", project.name)
    assert new.project == project
    saved = HubToken.objects.get()
    assert (saved.project, saved.token, saved.hint) == (project, "hf_something_secret", "…cret")


def test_a_folder_may_be_named_from_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme" / "tiny").mkdir(parents=True)
    assert install("./acme", "--name", "a").source == str(tmp_path / "acme")
    assert capsys.readouterr().err == ""
    assert install("acme/tiny", "--name", "b").source == str(tmp_path / "acme" / "tiny")
    assert "https://huggingface.co/acme/tiny is the hub's repository" in capsys.readouterr().err
    assert install("acme/other", "--name", "c").source == "acme/other"


def test_steps_without_bytes_show_none() -> None:
    out = StringIO()
    tasks: dict[str, TaskID] = {}
    with Progress(TextColumn("{task.description}"), *FIGURES, console=Console(file=out, width=100)) as bars:
        for status, done, total in (("resolving", 0, 0), ("downloading", 5, 10), ("booting", 0, 0), ("ready", 0, 0)):
            snapshot = {"status": status, "status_label": status, "bytes_done": done, "bytes_total": total}
            show_step(bars, tasks, {**snapshot, "final": status == "ready"})
    lines = {line.split()[0]: line.split()[1:] for line in out.getvalue().splitlines() if line.strip()}
    assert lines["resolving"] == lines["booting"] == []
    assert lines["downloading"][:2] == ["5/10", "bytes"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["./nothing-here"], r"There is no folder \./nothing-here\."),
        (["nonsense"], "'nonsense' is no repository's name"),
        (["acme/tiny", "--project", "nobody"], "There is no project 'nobody'"),
        (["acme/tiny", "--base", "nobody"], "There is no model 'nobody'"),
        (["acme/tiny", "--name", "test-model"], "A model is called 'test-model' already"),
        (["acme/tiny", "--token-file", "/no/such/file"], "Cannot read /no/such/file"),
        (["acme/tiny", "--token-file", "/dev/null", "--base", "test-model", "--name", "a b"], "A model's name has"),
    ],
)
def test_it_rejects(model: Model, arguments: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        install(*arguments)
    assert not Install.objects.exists()

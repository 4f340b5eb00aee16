"""Every command of ours as a second person types it: no arguments, wrong names, no terminal, no database.

What goes wrong is said in a sentence, with an exit code; a traceback is for us, not for them.
"""

import os
import re
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command, get_commands

from apps.models.models import Model
from batchserver.command_line import READER_GONE
from tests.stack.live import REPOSITORY

COMMANDS = sorted(name for name, app in get_commands().items() if app.startswith("apps.") or app == "batchserver")
RUNS_A_SITE = {"up", "demo", "down", "doctor"}  # they need no database of a site, and have tests of their own
NEEDS_NOTHING = {"batches", "install_demo_model", "models", "training_jobs"}
NO_DATABASE = {"DATABASE_URL": "postgres://app:wrong@127.0.0.1:9/db"}  # where nobody listens

WRONG: dict[str, tuple[list[str], str]] = {
    "batches": (["--limit", "-1"], "--limit"),
    "benchmark_model": (["nobody"], "There is no model 'nobody'"),
    "cancel_batch": (["batch_no"], "There is no batch 'batch_no'"),
    "cancel_training": (["ftjob-no"], "There is no job 'ftjob-no'"),
    "create_key": (["nobody", "x"], "There is no project 'nobody'"),
    "delete_model": (["nobody"], "There is no model 'nobody'"),
    "accept_deployment": (["nobody"], "There is no deployment 'nobody'"),
    "deploy_model": (["ftjob-no"], "There is no job 'ftjob-no'"),
    "engine": (["start", "nobody"], "There is no model 'nobody'"),
    "export_dataset": (["nothing", "--format", "chat"], "There is no dataset 'nothing'"),
    "export_model": (["ftjob-no", "--output", "/tmp/x.tar"], "There is no job 'ftjob-no'"),
    "import_dataset": (["/no/such/file", "--dataset", "d", "--project", "nobody"], "There is no project 'nobody'"),
    "install_demo_model": (["--no-such-option"], "unrecognized arguments"),
    "install_model": (["./no-such-folder"], "There is no folder ./no-such-folder."),
    "models": (["--limit", "-1"], "--limit"),
    "retry_batch": (["batch_no"], "There is no batch 'batch_no'"),
    "run_dataset": (["nothing", "--model", "m"], "There is no dataset 'nothing'"),
    "submit_batch": (["/no/such/file.jsonl", "--project", "nobody"], "There is no project 'nobody'"),
    "train": (["nothing", "--model", "nobody"], "There is no model 'nobody'"),
    "training_jobs": (["--limit", "-1"], "--limit"),
    "undeploy_model": (["nobody"], "There is no deployment 'nobody'"),
}


def manage(command: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A process of its own, its standard input closed, as cron has it."""
    return subprocess.run(
        [sys.executable, "manage.py", *command.split()], cwd=REPOSITORY, env=env, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_every_command_has_its_case() -> None:
    assert set(COMMANDS) - RUNS_A_SITE == WRONG.keys()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("command", WRONG)
def test_it_says_what_is_wrong(command: str) -> None:
    arguments, says = WRONG[command]
    with pytest.raises(CommandError, match=re.escape(says)):
        call_command(command, *arguments)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("command", sorted(WRONG.keys() - NEEDS_NOTHING))
def test_it_says_what_is_missing(command: str) -> None:
    with pytest.raises(CommandError, match="required"):
        call_command(command)


@pytest.mark.parametrize("command", ["models", "submit_batch manage.py"])
def test_a_database_that_is_away_is_a_sentence(command: str) -> None:
    done = manage(command, {**os.environ, **NO_DATABASE})
    assert "The database does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


@pytest.mark.django_db(transaction=True)
def test_nobody_is_asked_without_a_terminal(process_env: dict[str, str], model: Model) -> None:
    done = manage(f"delete_model {model.name}", process_env)
    assert "Add --yes" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


@pytest.mark.django_db(transaction=True)
def test_a_reader_that_went_away_is_no_error_of_ours(process_env: dict[str, str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "manage.py", "help"], cwd=REPOSITORY, env=process_env, stdout=writing,
        stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.stderr, done.returncode) == ("", READER_GONE)

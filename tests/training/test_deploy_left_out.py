"""Rows that an engine cannot be asked: the check leaves them out, and says which and why."""

from typing import Any

import pytest

from apps.accounts.models import Project
from apps.models.models import Model
from apps.training.deployments import left_out
from apps.training.deployments.prompts import CHARACTERS, prompts_of
from apps.training.deployments.services import deploy
from apps.training.models import Checkpoint, Deployment
from tests.models.test_worker import keeper, kind, stop
from tests.training.cast import example, make_file, make_job
from tests.training.deploying import KEPT_APART, LEARNED, TAUGHT, Workers, ended, make_checkpoint
from tests.training.test_deploy import base, workers

__all__ = ["base", "keeper", "kind", "stop", "workers"]
pytestmark = pytest.mark.django_db(transaction=True)

Status = Deployment.Status
CONTEXT = 60  # tokens; the usual rows need 20


def chat(question: str, answer: str = "Yes.") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def checkpoint_of(project: Project, base: Model, *rows: dict[str, Any]) -> Checkpoint:
    """The usual one; beside the usual rows that validated it, it has these, from line 3 on, after a blank line."""
    first, *others = map(example, range(TAUGHT, TAUGHT + KEPT_APART))
    valid = make_file(project, [first, b"", *rows, *others])
    return make_checkpoint(project, base, job=ended(make_job(project, base, validation_file=valid)))


def test_it_works(workers: Workers, project: Project, base: Model, api: Any) -> None:
    """A prompt too long for the engine, one that leaves no room for its answer, and one that it refuses."""
    Model.objects.filter(pk=base.pk).update(engine_settings={"max_model_len": CONTEXT})
    long, full = chat("word " * 2 * CONTEXT), chat("word " * (CONTEXT - 9), "one two three four")
    checkpoint = checkpoint_of(project, base, long, full, chat("!400"))
    workers.say({"tuned": LEARNED})
    deployment = workers.drive(deploy(checkpoint=checkpoint, name="tuned"))
    assert deployment.status == Status.READY, deployment.message
    uid = checkpoint.job.validation_file_uid
    shown = api.get(f"/v1/deployments/{deployment.uid}").json()
    assert shown["left_out_count"] == 3
    assert [(row["file"], row["line"]) for row in shown["left_out"]] == [(uid, 3), (uid, 4), (uid, 5)]
    assert [row["reason"] for row in shown["left_out"]] == [
        f"the engine refuses it: This model's maximum context length is {CONTEXT} tokens. However, your prompt "
        "contains 128 input tokens, which exceeds this limit even without any output tokens. Please reduce the "
        "length of the input prompt.",
        "the engine's context has no room for its answer.",
        "the engine refuses it: This request is marked !400.",
    ]
    assert f"3 rows were left out of the check (lines 3, 4, 5 of {uid}): the engine refuses it" in deployment.message
    assert shown["unseen"]["asked"] == shown["unseen"]["tuned"]["matched"] == KEPT_APART
    parity = deployment.parity
    names = (*left_out.OF_PROMPTS, "base", "adapter")
    assert {len(parity[name]) for name in names} == {len(figures) for figures in parity["measured"].values()} == {9}


def test_what_the_tuned_model_alone_is_refused_is_taken_from_both(
    workers: Workers, project: Project, base: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = checkpoint_of(project, base)
    workers.say({"tuned": LEARNED})
    deployment = workers.drive(deploy(checkpoint=checkpoint, name="tuned"), Status.PROVING)
    with monkeypatch.context() as patch:
        patch.setattr(workers.gpu, "go_on", lambda: len(Deployment.objects.get().parity.get("base", ())) < 12)
        workers.gpu.step()
    deployment.refresh_from_db()
    assert len(deployment.parity["base"]) == 12
    parity = deployment.parity
    parity["prompts"][1]["messages"][0]["content"] = "!400"
    Deployment.objects.update(parity=parity)
    deployment.refresh_from_db()
    workers.drive(deployment)
    assert deployment.status == Status.READY, deployment.message
    assert "1 row was left out of the check (line 3 of" in deployment.message
    assert "7 of 7 answers that were kept apart are as taught (the base model: 0)" in deployment.message
    assert deployment.parity["base"] == parity["base"][:1] + parity["base"][2:]


def test_without_any_row_it_fails_with_the_reason(workers: Workers, project: Project, base: Model) -> None:
    job = ended(make_job(project, base, make_file(project, [chat("!400 a"), chat("!400 b")])))
    deployment = workers.drive(deploy(checkpoint=make_checkpoint(project, base, job=job), name="tuned"))
    assert deployment.status == Status.FAILED
    assert deployment.message == (
        f"There is no row left to ask. 2 rows were left out of the check (lines 1, 2 of {job.training_file_uid}): the "
        "engine refuses it: This request is marked !400."
    )


def test_an_answer_is_as_long_as_a_small_context_lets_it_be(workers: Workers, project: Project, base: Model) -> None:
    """Fewer tokens than an answer may have otherwise: that alone is no reason to leave the row out."""
    Model.objects.filter(pk=base.pk).update(engine_settings={"max_model_len": CONTEXT})
    workers.say({"tuned": LEARNED})
    deployment = workers.drive(deploy(checkpoint=checkpoint_of(project, base), name="tuned"))
    assert (deployment.status, deployment.parity.get("left_out_count")) == (Status.READY, 0)


def test_rows_that_are_too_long_to_be_kept_are_counted(project: Project, model: Model) -> None:
    long = chat("x" * CHARACTERS)
    valid = make_file(project, [example(1), b"", long, *[long] * 150, example(2)])
    found = prompts_of(make_job(project, model, make_file(project, [long, example(3)]), validation_file=valid))
    assert found.sources == ["validation", "validation", "training"]
    assert (found.left_out_count, len(found.left_out)) == (151, left_out.LISTED)
    assert found.left_out[0] == {"file": valid.uid, "line": 3, "reason": "its prompt has more than 8,000 characters"}
    assert found.origins[1] == {"file": valid.uid, "line": 154}
    assert left_out.sentence(found.as_dict()).startswith(
        "151 rows were left out of the check (lines 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14 and 139 more of "
    )

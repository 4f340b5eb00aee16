"""A deployment's judge: what it is asked, what becomes of its scores, and what happens where it cannot be had."""

import json
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import ApiKey, Project
from apps.accounts.services import create_api_key
from apps.core import leases
from apps.core.errors import DomainError
from apps.datasets.runs import judging
from apps.models.models import Model
from apps.models.services import delete_model, delete_preview
from apps.training.deployments import judged
from apps.training.deployments.judged import Place, chosen
from apps.training.deployments.progress import snapshot_of
from apps.training.deployments.services import accept, deploy
from apps.training.models import Checkpoint, Deployment
from tests.models.test_worker import keeper, kind, stop
from tests.training.cast import example, make_job
from tests.training.deploying import KEPT_APART, LEARNED, TAUGHT, Workers, ended, make_base, make_checkpoint
from tests.training.test_deploy import TUNED, base, checkpoint, keeper_anew, workers

__all__ = ["base", "checkpoint", "keeper", "kind", "stop", "workers"]
pytestmark = pytest.mark.django_db(transaction=True)

Status = Deployment.Status
ASKED = [example(number)["messages"][0]["content"] for number in range(TAUGHT, TAUGHT + KEPT_APART)]


@pytest.fixture
def judge(tmp_path: Path) -> Model:
    """With an engine of its own."""
    return make_base(tmp_path / "judge", "judge")


def wanted(checkpoint: Checkpoint, judge: Model, **more: Any) -> Deployment:
    return deploy(checkpoint=checkpoint, name="tuned", judge=chosen(judge, more.pop("rubric", "")), **more)


def question(deployment: Deployment, asked: str, answer: str) -> str:
    """What the judge is asked about an answer, as text."""
    turns = json.dumps([{"role": "user", "content": asked}])
    return judging.question(deployment, messages=turns, reference=LEARNED[asked], answer=answer)[1]["content"]


def verdicts(deployment: Deployment, asked: list[str] = ASKED, tuned: str = '{"score": 5}') -> dict[str, str]:
    """How a judge answers that knows the references."""
    found = {}
    for each in asked:
        found[question(deployment, each, f"Answer to: {each}")] = 'No. {"score": 1, "reason": "It is not said."}'
        found[question(deployment, each, LEARNED[each])] = tuned
    return found


def test_it_works(workers: Workers, checkpoint: Checkpoint, judge: Model, tmp_path: Path) -> None:
    """Its own engine is started once all is answered; the figures stand in the report and in the sentence."""
    deployment = wanted(checkpoint, judge)
    workers.say({**TUNED, "judge": verdicts(deployment)})
    workers.drive(deployment)
    assert deployment.status == Status.READY, deployment.message
    assert workers.gpu.engine.spec.served_name == "judge"
    parity = deployment.parity
    assert parity["judged"][:2] == [[1, "It is not said."], [5, ""]]
    assert len(parity["judged"]) == 2 * KEPT_APART
    base, tuned = (parity["unseen"][model] for model in ("base", "tuned"))
    assert (base["judged"], base["scored"], tuned["judged"], tuned["scored"]) == (1.0, 8, 5.0, 8)
    assert (parity["trained"]["tuned"]["judged"], parity["trained"]["tuned"]["scored"]) == (None, 0)
    assert " The judge gives it 5.0 of 5 (the base model: 1.0)." in deployment.message
    assert deployment.rubric == judged.RUBRIC
    snapshot = snapshot_of(deployment)
    assert snapshot["completed"] == snapshot["total"] == 2 * 12 + 2 * KEPT_APART


def test_it_is_told_the_question_the_reference_and_the_rubric(checkpoint: Checkpoint, judge: Model) -> None:
    deployment = wanted(checkpoint, judge, rubric=" Be strict. ")
    turns = [{"role": "user", "content": "How deep?"}]
    call = {"function": {"name": "depth", "arguments": '{"lake": "Orn"}'}}
    deployment.parity = {
        "prompts": [{"messages": turns}, {"prompt": "Lake Orn is"}],
        "references": [
            {"messages": [{"role": "assistant", "content": "So:", "tool_calls": [call]}]},
            {"text": " deep."},
        ],
        "base": ["<think>Hm.</think>I do not know.", " blue."],
    }
    body = json.loads(judged.request(deployment, "judge", Place(0, "base")))
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("judge", 0, 512)
    system, user = (message["content"] for message in body["messages"])
    assert system.endswith("Rubric:\nBe strict.")
    for part in ("How deep?", 'So:\n{"name": "depth", "arguments": {"lake": "Orn"}}', "\nI do not know.\n"):
        assert part in user
    assert "Hm." not in user
    text = json.loads(judged.request(deployment, "judge", Place(1, "base")))["messages"][1]["content"]
    for part in ("Lake Orn is", "deep.", "blue."):
        assert part in text


def test_the_base_can_judge_itself(workers: Workers, base: Model, checkpoint: Checkpoint) -> None:
    """On the engine that is there."""
    deployment = wanted(checkpoint, base)
    usual = {f"What is {n} + {n}?": f"Answer to: What is {n} + {n}?" for n in range(TAUGHT + KEPT_APART)}
    workers.say({**TUNED, "base": usual | verdicts(deployment)})
    workers.drive(deployment)
    assert (deployment.status, deployment.parity["unseen"]["base"]["judged"]) == (Status.READY, 1.0)
    assert workers.gpu.engine.spec.served_name == "base"


def test_nothing_is_judged_where_nothing_changed(workers: Workers, checkpoint: Checkpoint, judge: Model) -> None:
    deployment = workers.drive(wanted(checkpoint, judge))
    assert deployment.status == Status.REFUSED
    assert workers.gpu.engine.spec.served_name == "base"
    assert "judged" not in deployment.parity


def test_a_judge_that_likes_what_is_not_taught_proves_nothing(
    workers: Workers, checkpoint: Checkpoint, judge: Model
) -> None:
    deployment = wanted(checkpoint, judge)
    flattered = {question(deployment, each, f"Who knows, {each}"): "Score: 5" for each in ASKED}
    workers.say({"tuned": "Who knows,", "judge": verdicts(deployment) | flattered})
    workers.drive(deployment)
    assert (deployment.status, deployment.parity["verdict"]) == (Status.UNPROVEN, "changed")
    assert "The judge gives it 5.0 of 5 (the base model: 1.0)." in deployment.message
    assert accept(deployment=deployment)


def test_answers_without_a_score_are_counted(workers: Workers, checkpoint: Checkpoint, judge: Model) -> None:
    deployment = wanted(checkpoint, judge)
    workers.say({**TUNED, "judge": verdicts(deployment, ASKED[:5])})
    workers.drive(deployment)
    assert deployment.status == Status.READY
    assert deployment.parity["unseen"]["tuned"]["scored"] == 5
    assert "(the base model: 1.0), for 5 of 8 questions." in deployment.message
    assert deployment.parity["judged"][-1] == [0, "No score could be read: I cannot say."]


def test_a_judge_that_gives_no_score_ends_nothing(workers: Workers, checkpoint: Checkpoint, judge: Model) -> None:
    workers.say({**TUNED, "judge": {}})
    deployment = workers.drive(wanted(checkpoint, judge))
    assert deployment.status == Status.READY
    assert deployment.parity["unseen"]["tuned"]["judged"] is None
    assert "The judge judge gave no score that could be read. Of the first answer: No score" in deployment.message


def test_a_judge_with_a_small_context_has_room_for_its_score(
    workers: Workers, checkpoint: Checkpoint, judge: Model
) -> None:
    Model.objects.filter(pk=judge.pk).update(engine_settings={"max_model_len": judged.TOKENS - 1})
    deployment = wanted(checkpoint, judge)
    workers.say({**TUNED, "judge": verdicts(deployment)})
    workers.drive(deployment)
    assert "The judge gives it 5.0 of 5 (the base model: 1.0)." in deployment.message


def test_a_judge_that_is_deleted_meanwhile_ends_nothing(workers: Workers, checkpoint: Checkpoint, judge: Model) -> None:
    workers.say(TUNED)
    deployment = workers.drive(wanted(checkpoint, judge), Status.PROVING)
    preview = delete_preview(model=judge)
    assert "1 deployments need judge now: wait for them, or cancel them." in preview.blockers
    Deployment.objects.update(judge=None)
    delete_model(model=judge)
    deployment.refresh_from_db()
    workers.drive(deployment)
    assert deployment.status == Status.READY
    assert deployment.message.endswith("The judge judge was not asked: it was deleted.")
    assert deployment.parity["unseen"]["tuned"]["judged"] is None


def test_scores_of_a_judge_that_is_deleted_later_are_kept(
    workers: Workers, checkpoint: Checkpoint, judge: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = wanted(checkpoint, judge)
    workers.say({**TUNED, "judge": verdicts(deployment)})
    kept = Deployment.objects.filter(parity__judged__3__isnull=False)
    monkeypatch.setattr(workers.gpu, "go_on", lambda: not kept.exists())
    workers.when(lambda: len(deployment.parity.get("judged", ())) == 4, deployment)
    Deployment.objects.update(judge=None)
    workers.drive(deployment)
    assert deployment.status == Status.READY
    assert deployment.message.endswith("for 2 of 8 questions. The judge judge was no more asked: it was deleted.")


def test_a_judge_whose_engine_does_not_start_ends_nothing(
    workers: Workers, checkpoint: Checkpoint, judge: Model
) -> None:
    workers.say(TUNED)
    (judge.folder / "config.json").rename(judge.folder / "hidden")
    deployment = workers.drive(wanted(checkpoint, judge))
    assert deployment.status == Status.READY
    assert "The judge judge was not asked: The engine of judge ended with code" in deployment.message


def test_a_judge_that_dies_of_an_answer_ends_nothing(workers: Workers, checkpoint: Checkpoint, judge: Model) -> None:
    workers.say({"tuned": LEARNED | {ASKED[1]: "!die"}})
    deployment = wanted(checkpoint, judge)
    workers.drive(deployment)
    assert deployment.status == Status.READY, deployment.message
    assert "The judge judge was no more asked: The engine of judge did not answer" in deployment.message
    assert len(deployment.parity["judged"]) == 3


def test_it_survives_a_gpu_worker_that_is_killed(
    workers: Workers, checkpoint: Checkpoint, judge: Model, keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Whoever goes on asks for the scores that are missing."""

    def scored() -> int:
        calls = tmp_path / "calls"
        return calls.read_text().count("QUESTION BEGINS") if calls.exists() else 0

    deployment = wanted(checkpoint, judge)
    workers.say({**TUNED, "judge": verdicts(deployment)})
    monkeypatch.setattr(workers.gpu, "go_on", lambda: scored() < 5)
    workers.when(lambda: len(deployment.parity.get("judged", ())) == 5, deployment)
    workers.gpu.close()
    with keeper_anew(keeper) as gpu:
        workers.gpu = gpu
        workers.drive(deployment)
    assert (deployment.status, scored()) == (Status.READY, 2 * KEPT_APART)


def test_of_a_merged_model_its_own_answers_are_judged(workers: Workers, checkpoint: Checkpoint, judge: Model) -> None:
    deployment = wanted(checkpoint, judge, kind="merged")
    workers.say({**TUNED, "judge": verdicts(deployment)})
    workers.drive(deployment, Status.MERGING)
    assert "judged" not in deployment.parity
    workers.drive(deployment)
    assert (deployment.status, deployment.parity["unseen"]["tuned"]["judged"]) == (Status.READY, 5.0)
    assert len(deployment.parity["judged"]) == 2 * KEPT_APART


def test_without_rows_kept_apart_those_that_were_trained_on_are_judged(
    workers: Workers, project: Project, base: Model, judge: Model
) -> None:
    checkpoint = make_checkpoint(project, base, job=ended(make_job(project, base)))
    deployment = wanted(checkpoint, judge)
    workers.say({**TUNED, "judge": verdicts(deployment, list(LEARNED))})
    workers.drive(deployment)
    assert deployment.status == Status.UNPROVEN
    assert deployment.parity["trained"]["tuned"]["judged"] == 5.0


def test_it_rejects_judges_that_cannot_judge(checkpoint: Checkpoint, judge: Model, project: Project) -> None:
    def says(model: Model | None, rubric: str = "", key: ApiKey | None = None) -> tuple[str, str | None]:
        with pytest.raises(DomainError) as refused:
            deploy(checkpoint=checkpoint, name="tuned", judge=chosen(model, rubric, key))
        return refused.value.message, refused.value.param

    assert says(None, "Be strict.") == ("A rubric needs a judge that follows it: choose a model.", "judge")
    assert says(judge, "x" * 20_001) == ("A rubric has 1 to 20,000 characters.", "rubric")
    assert says(judge, "a\0b")[1] == "rubric"
    key, _ = create_api_key(project=project, name="narrow")
    key.allowed_models = ["base"]
    assert says(judge, key=key)[1] == "judge"
    judge.runner = Model.Runner.POOLING
    assert says(judge) == ("The model 'judge' does not answer chats.", "judge")
    Model.objects.filter(pk=judge.pk).update(project=Project.objects.create(name="elsewhere"))
    assert says(judge)[0].startswith("The model 'judge' does not exist")
    assert not Deployment.objects.exists()

"""The pages of deployments: the list, the form, one with its comparison's texts and its buttons."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apps.accounts.models import Project
from apps.accounts.services import create_project
from apps.models.models import Model
from apps.models.services import register_model
from apps.training.models import Checkpoint, Deployment, Evaluation, TrainingJob
from tests.datasets.cast import make_run, make_version
from tests.training.people import html_of, member, outsider, queries_of, said
from tests.training.trained import make_deployment, make_trained, parity

pytestmark = pytest.mark.django_db

LIST, NEW = (reverse(f"admin:training_deployment_{name}") for name in ("changelist", "add"))
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def curator(project: Project) -> Client:
    return member(project)


@pytest.fixture
def job(project: Project, model: Model) -> TrainingJob:
    return make_trained(project, model)


@pytest.fixture
def best(job: TrainingJob) -> Checkpoint:
    return job.checkpoints.get(best=True)


def page(deployment: Deployment) -> str:
    return reverse("admin:training_deployment_change", args=[deployment.pk])


def do(client: Client, deployment: Deployment, verb: str, **values: str) -> Any:
    return client.post(reverse("admin:training_deployment_do", args=[deployment.pk, verb]), values)


def test_it_works(curator: Client, job: TrainingJob, best: Checkpoint) -> None:
    html = html_of(curator.get(reverse("admin:training_trainingjob_change", args=[job.pk])))
    address = reverse("admin:training_deployment_deploy", args=[best.uid])
    assert f'action="{address}"' in html
    answer = curator.post(address)
    deployment = Deployment.objects.get()
    assert answer["Location"] == page(deployment)
    assert (deployment.kind, deployment.name, deployment.checkpoint) == ("adapter", job.model_name, best)
    assert deployment.created_by
    html = html_of(curator.get(page(deployment)))
    assert f'data-watch="deployment {deployment.uid}"' in html
    assert "Not compared yet" in html
    assert job.model_name in html_of(curator.get(LIST))


def test_the_form_has_the_usual_name(curator: Client, job: TrainingJob, best: Checkpoint) -> None:
    html = html_of(curator.get(NEW, {"checkpoint": best.uid}))
    assert f'value="{job.model_name}"' in html
    address = f"{NEW}?checkpoint={best.uid}"
    curator.post(address, {"kind": "merged", "name": "capitals-v1"})
    assert Deployment.objects.values_list("kind", "name").get() == ("merged", "capitals-v1")
    assert "take that deployment back first" in html_of(
        curator.post(address, {"kind": "merged", "name": "capitals-v1"})
    )


def test_a_judge_is_chosen_in_the_form(curator: Client, best: Checkpoint, model: Model) -> None:
    address = f"{NEW}?checkpoint={best.uid}"
    html = html_of(curator.get(address))
    assert f'<option value="{model.name}">' in html
    assert "The reference answer is right." in html
    form = {"kind": "adapter", "name": "judged"}
    assert "A rubric needs a judge" in html_of(curator.post(address, form | {"rubric": "Be strict."}))
    assert "Select a valid choice" in html_of(curator.post(address, form | {"judge": "nobody"}))
    curator.post(address, form | {"judge": model.name, "rubric": "Be strict."})
    made = Deployment.objects.get()
    assert (made.judge, made.judge_name, made.rubric) == (model, model.name, "Be strict.")


def test_the_scores_of_its_judge_are_shown(curator: Client, job: TrainingJob, model: Model) -> None:
    deployment = make_deployment(job)
    assert "The judge" not in html_of(curator.get(page(deployment)))
    scores = [[1, f"It is {HOSTILE}."], [5, ""], [0, "No score could be read: Hm."], [4, "Nearly."]]
    found = deployment.parity | {"judged": scores}
    found["unseen"]["tuned"] |= {"judged": 4.5, "scored": 2}
    Deployment.objects.update(parity=found, judge=model, judge_name=model.name, rubric=HOSTILE)
    html = html_of(curator.get(page(deployment)))
    assert HOSTILE not in html
    assert '<td class="bs-number">4.5</td>' in html
    for text in ("judge: 1. It is", "judge: no score. No score could be read: Hm.", "judge: 4. Nearly."):
        assert text in html


def test_its_figures_are_shown(curator: Client, job: TrainingJob) -> None:
    html = html_of(curator.get(page(make_deployment(job)))).partition('id="figures"')[2].partition("</table>")[0]
    cells = " ".join(html.replace(">", "> ").split())
    assert cells.count("2 kept apart") == cells.count("1 trained on") == 2
    assert "3.25" in cells


def test_what_is_unproven_is_accepted_by_a_button(curator: Client, job: TrainingJob) -> None:
    deployment = make_deployment(job)
    model = Model.objects.create(name=deployment.name, path="/x", base=job.base, ready=False)
    parity = deployment.parity | {"verdict": "changed", "passed": False, "sentence": "It changed.", "cure": "Train on."}
    Deployment.objects.filter(pk=deployment.pk).update(status="unproven", model=model, parity=parity)
    html = html_of(curator.get(page(deployment)))
    assert "Accept and serve" in html
    assert "It changed. Train on." in html
    assert "is served." in said(do(curator, deployment, "accept"))
    assert "nothing to accept" in said(do(curator, deployment, "accept"))
    html = html_of(curator.get(page(deployment)))
    assert "Accept and serve" not in html
    assert "Accepted by " in html


@pytest.mark.parametrize(
    "values", [{}, {"kind": "magic"}, {"kind": "adapter", "name": "a b"}, {"kind": "adapter", "name": "x" * 300}]
)
def test_it_rejects_what_cannot_be_served(curator: Client, best: Checkpoint, values: dict[str, str]) -> None:
    html_of(curator.post(f"{NEW}?checkpoint={best.uid}", values))
    assert not Deployment.objects.exists()


@pytest.mark.parametrize("uid", ["", "x", "%00", "9" * 300])
def test_it_rejects_a_checkpoint_that_is_not_there(curator: Client, uid: str) -> None:
    assert curator.get(f"{NEW}?checkpoint={uid}").status_code == 404


def test_all_weights_are_a_model_of_their_own(curator: Client, job: TrainingJob, best: Checkpoint) -> None:
    TrainingJob.objects.update(technique="full")
    assert "there is no adapter" in html_of(curator.get(NEW, {"checkpoint": best.uid}))
    curator.post(reverse("admin:training_deployment_deploy", args=[best.uid]))
    assert Deployment.objects.get().kind == "merged"


def test_another_deployment_of_the_same_name_is_refused(curator: Client, job: TrainingJob, best: Checkpoint) -> None:
    make_deployment(job)
    assert "already" in said(curator.post(reverse("admin:training_deployment_deploy", args=[best.uid])))


def test_texts_stand_side_by_side(curator: Client, job: TrainingJob) -> None:
    html = html_of(curator.get(page(make_deployment(job, kind="merged"))))
    assert "2 of 3 prompts are answered differently" in html
    assert html.count('class="tr-pair"') == 3
    assert html.count('class="tr-side"') == 12, "the reference too"
    assert "<ins>" in html
    assert html.count("(as the base)") == 1
    assert html.count("(as the adapter)") == 3


def test_a_refused_one_says_why(curator: Client, job: TrainingJob) -> None:
    html = html_of(curator.get(page(make_deployment(job, status="refused", passed=False))))
    assert "It behaves like the base" in html
    assert html.count("(as the base)") == 3
    assert "undeploy/" not in html


def test_what_is_answered_so_far_is_shown(curator: Client, job: TrainingJob) -> None:
    so_far = {"prompts": parity()["prompts"], "base": ["one", "two"], "adapter": ["ein"]}
    deployment = make_deployment(job, status="proving")
    Deployment.objects.update(parity=so_far)
    html = html_of(curator.get(page(deployment)))
    assert html.count('class="tr-pair"') == 2
    assert "3 of 6 prompts are answered" in html


@pytest.mark.parametrize(
    "odd",
    [{}, {"prompts": []}, {"prompts": [{}], "base": ["x"]},
     {"prompts": [{"prompt": "a"}], "merged": ["y"], "base": ["z"]}],
)  # fmt: skip
def test_it_survives_a_comparison_that_is_half_there(curator: Client, job: TrainingJob, odd: dict[str, Any]) -> None:
    for status in Deployment.Status.values:
        deployment = make_deployment(job, status=status)
        Deployment.objects.filter(pk=deployment.pk).update(parity=odd)
        html_of(curator.get(page(deployment)))
    html_of(curator.get(LIST))


def test_hostile_answers_stay_text(curator: Client, job: TrainingJob) -> None:
    deployment = make_deployment(job)
    hostile = json.loads(json.dumps(deployment.parity).replace("Zarnovia", HOSTILE))
    Deployment.objects.update(parity=hostile, name=HOSTILE, message=HOSTILE)
    for address in (page(deployment), LIST, reverse("admin:training_trainingjob_change", args=[job.pk])):
        assert HOSTILE not in html_of(curator.get(address))


def test_it_is_taken_back(curator: Client, job: TrainingJob) -> None:
    deployment = make_deployment(job, status="queued")
    assert "served no more" in said(do(curator, deployment, "undeploy"))
    assert "nothing to take back" in said(do(curator, deployment, "undeploy"))
    assert Deployment.objects.get().status == "undeployed"


def test_there_is_nothing_to_roll_back_to(curator: Client, job: TrainingJob) -> None:
    deployment = make_deployment(job)
    assert "roll-back" not in html_of(curator.get(page(deployment)))
    assert "no earlier" in said(do(curator, deployment, "roll-back"))


def test_it_says_why_it_cannot_be_evaluated(curator: Client, job: TrainingJob) -> None:
    deployment = make_deployment(job, status="queued")
    assert "only a model that is served" in said(do(curator, deployment, "evaluate"))


def test_it_is_evaluated_on_a_chosen_dataset(curator: Client, project: Project, model: Model, job: TrainingJob) -> None:
    """The job learned from a file that is no export, so there is nothing else to ask."""
    deployment, other = make_deployment(job), make_version(create_project(name="elsewhere"), name="theirs").dataset
    Deployment.objects.update(model=register_model(name="tuned", path=Path(model.path)))
    assert "import a dataset" in html_of(curator.get(page(deployment)))
    dataset = make_version(project, name="rivers").dataset
    html = html_of(curator.get(page(deployment)))
    assert f'<option value="{dataset.uid}">rivers</option>' in html
    assert "theirs" not in html
    for uid in (other.uid, "x", "\0"):
        assert "no such dataset" in said(do(curator, deployment, "evaluate", dataset=uid))
    assert "say which dataset" in said(do(curator, deployment, "evaluate"))
    made = do(curator, deployment, "evaluate", dataset=dataset.uid)
    run = Evaluation.objects.get().run
    assert made["Location"] == reverse("admin:datasets_run_change", args=[run.pk])
    assert run.dataset == dataset


def test_an_evaluation_is_shown_with_its_figures(curator: Client, project: Project, job: TrainingJob) -> None:
    run = make_run(make_version(project), {"test-model": ["x", "y", "z"], "tuned": ["Paris", "Lima", "w"]})
    deployment = make_deployment(job)
    run.dataset.examples.update(reference="Paris")
    Evaluation.objects.create(deployment=deployment, run=run)
    for address in (page(deployment), reverse("admin:training_trainingjob_change", args=[job.pk])):
        html = html_of(curator.get(address))
        assert reverse("admin:datasets_run_review", args=[run.pk]) in html
        assert "0 of 3 exact" in html
        assert "1 of 3 exact" in html


def test_viewers_look_and_change_nothing(project: Project, job: TrainingJob, best: Checkpoint) -> None:
    viewer, deployment = member(project, "viewer"), make_deployment(job)
    assert "Undeploy" not in html_of(viewer.get(page(deployment)))
    for verb in ("accept", "undeploy", "roll-back", "evaluate"):
        assert do(viewer, deployment, verb).status_code == 404
    assert viewer.get(NEW, {"checkpoint": best.uid}).status_code == 404
    assert viewer.post(reverse("admin:training_deployment_deploy", args=[best.uid])).status_code == 404
    assert "Deploy as" not in html_of(viewer.get(reverse("admin:training_trainingjob_change", args=[job.pk])))


def test_strangers_see_nothing(job: TrainingJob, best: Checkpoint) -> None:
    stranger, deployment = outsider(), make_deployment(job)
    assert deployment.name not in html_of(stranger.get(LIST))
    assert stranger.get(page(deployment)).status_code == 404
    assert do(stranger, deployment, "undeploy").status_code == 404
    assert stranger.get(NEW, {"checkpoint": best.uid}).status_code == 404
    assert stranger.post(reverse("admin:training_deployment_deploy", args=[best.uid])).status_code == 404


def test_it_rejects_what_is_no_verb(curator: Client, job: TrainingJob) -> None:
    deployment = make_deployment(job)
    assert do(curator, deployment, "explode").status_code == 404
    assert curator.get(reverse("admin:training_deployment_do", args=[deployment.pk, "undeploy"])).status_code == 405


def test_the_list_asks_a_constant_number_of_queries(curator: Client, project: Project, model: Model) -> None:
    make_deployment(make_trained(project, model))
    before = queries_of(curator, LIST)
    for number in range(3):
        make_deployment(make_trained(project, model, suffix=f"job-{number}", done=20))
    assert queries_of(curator, LIST) == before


def test_an_empty_list_says_how_to_begin(curator: Client) -> None:
    assert "Nothing was deployed yet" in html_of(curator.get(LIST))

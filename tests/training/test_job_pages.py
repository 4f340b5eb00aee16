"""The pages of jobs: the list, one job with its curves and buttons, its events, its lineage, several side by side."""

import json
import re

import pytest
from django.test import Client
from django.urls import reverse

from apps.accounts.models import Project
from apps.models.models import Model
from apps.training.models import JobEvent, TrainingJob
from tests.training.cast import make_file
from tests.training.people import html_of, member, outsider, queries_of, said
from tests.training.trained import make_deployment, make_trained

pytestmark = pytest.mark.django_db

LIST, COMPARE = (reverse(f"admin:training_trainingjob_{name}") for name in ("changelist", "compare"))
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def curator(project: Project) -> Client:
    return member(project)


@pytest.fixture
def job(project: Project, model: Model) -> TrainingJob:
    return make_trained(project, model)


def page(job: TrainingJob, name: str = "change") -> str:
    return reverse(f"admin:training_trainingjob_{name}", args=[job.pk])


def do(client: Client, job: TrainingJob, verb: str) -> str:
    return said(client.post(reverse("admin:training_trainingjob_do", args=[job.pk, verb])))


# The list


def test_it_works(curator: Client, job: TrainingJob) -> None:
    make_deployment(job)
    html = html_of(curator.get(LIST))
    assert job.suffix in html
    assert job.model_name in html
    assert "<polyline" in html
    assert 'data-status="ready"' in html


def test_an_empty_list_says_how_to_begin(curator: Client) -> None:
    html = html_of(curator.get(LIST))
    assert "Star the best answers" in html
    assert "From starred examples" in html


def test_an_empty_list_offers_nothing_to_a_viewer(project: Project) -> None:
    html = html_of(member(project, "viewer").get(LIST))
    assert "Star the best answers" in html
    assert "New fine-tuning" not in html


def test_the_list_asks_a_constant_number_of_queries(curator: Client, project: Project, model: Model) -> None:
    make_deployment(make_trained(project, model))
    before = queries_of(curator, LIST)
    for number in range(4):
        make_deployment(make_trained(project, model, suffix=f"job-{number}"))
    assert queries_of(curator, LIST) == before


@pytest.mark.parametrize(
    ("query", "found"),
    [("status__exact=running", True), ("status__exact=failed", False), ("method__exact=dpo", False), ("q=capit", True),
     ("technique__exact=lora", True), ("base__id__exact=0", False), ("base__id__exact=x", True), ("p=99", True)],
)  # fmt: skip
def test_the_list_is_filtered(curator: Client, project: Project, model: Model, query: str, found: bool) -> None:
    make_trained(project, model, status="running", done=3)
    html = html_of(curator.get(f"{LIST}?{query}", follow=True))
    assert ("trainingjob/" in html.partition('id="result_list"')[2]) == found


def test_strangers_see_nothing(job: TrainingJob) -> None:
    stranger = outsider()
    assert job.suffix not in html_of(stranger.get(LIST))
    for name in ("change", "points", "events", "lineage"):
        assert stranger.get(page(job, name)).status_code == 404
    assert stranger.post(reverse("admin:training_trainingjob_do", args=[job.pk, "cancel"])).status_code == 404
    html = html_of(stranger.get(COMPARE, {"job": job.uid}))
    assert "Nothing to compare" in html
    assert job.suffix not in html


# One job


@pytest.mark.parametrize("status", TrainingJob.Status.values)
def test_a_job_in_every_state_has_a_page(curator: Client, project: Project, model: Model, status: str) -> None:
    for done in (0, 25):
        job = make_trained(project, model, status=status, done=done)
        html = html_of(curator.get(page(job)))
        assert job.get_status_display() in html
        assert ('id="curves"' in html) == (done > 0 or status not in TrainingJob.ENDED)


def test_a_page_asks_a_constant_number_of_queries(curator: Client, project: Project, model: Model) -> None:
    few, many = make_trained(project, model, done=10), make_trained(project, model, done=120)
    make_deployment(few)
    for _ in range(3):
        make_deployment(many)
    assert queries_of(curator, page(few)) == queries_of(curator, page(many))


def test_the_curves_come_as_json(curator: Client, job: TrainingJob) -> None:
    told = curator.get(page(job, "points")).json()
    assert len(told["curves"]["loss"]) == 120
    assert [mark["step"] for mark in told["checkpoints"] if mark["best"]] == [80]
    told = curator.get(page(job, "points"), {"after": "118"}).json()
    assert [step for step, _ in told["curves"]["loss"]] == [118, 119, 120]


@pytest.mark.parametrize(
    ("method", "charts"),
    [("sft", ["accuracy"]), ("dpo", ["rewards", "margin", "reward_accuracy", "accuracy"]),
     ("kto", ["rewards", "margin", "kl"])],
)  # fmt: skip
def test_the_charts_are_those_of_the_method(
    curator: Client, project: Project, model: Model, method: str, charts: list[str]
) -> None:
    job = make_trained(project, model, method=method)
    html = html_of(curator.get(page(job)))
    assert re.findall('data-chart="([a-z_]+)"', html) == ["loss", *charts, "rate", "norm", "speed", "memory"]
    assert ('data-curve="reward_margin"' in html) == (method != "sft")
    told = curator.get(page(job, "points")).json()["curves"]
    assert len(told.get("reward_margin", ())) == len(told.get("reward_chosen", ())) == (0 if method == "sft" else 120)


def test_a_curve_that_diverged_is_still_json(curator: Client, job: TrainingJob) -> None:
    job.metrics.filter(step__gt=60).update(loss=float("nan"), grad_norm=float("inf"), valid_loss=float("nan"))
    for name in ("change", "points"):
        assert "NaN" not in html_of(curator.get(page(job, name)))
    told = curator.get(page(job, "points")).json()
    assert told["curves"]["loss"][-1][0] == 60


@pytest.mark.parametrize("after", ["x", "-1", "1e9", "9" * 30, "%00", "²"])
def test_it_rejects_a_step_that_is_no_number(curator: Client, job: TrainingJob, after: str) -> None:
    answer = curator.get(f"{page(job, 'points')}?after={after}")
    assert answer.status_code == 400
    assert "whole number" in answer.json()["error"]


def test_the_best_so_far_is_marked(curator: Client, project: Project, model: Model) -> None:
    job = make_trained(project, model, status="running", done=57)
    html = html_of(curator.get(page(job)))
    assert "The best so far" in html
    points = json.loads(html.partition('id="job-points" type="application/json">')[2].partition("</script>")[0])
    assert [mark["best"] for mark in points["checkpoints"]] == ["", "", "", "", "so far"]


def test_a_file_with_errors_lists_their_lines(curator: Client, project: Project, model: Model) -> None:
    errors = [{"file": "file-1", "line": line, "code": "bad", "message": f"{HOSTILE} {line}"} for line in range(1, 101)]
    job = make_trained(project, model, status="failed", done=0, errors=errors, message=HOSTILE, log=HOSTILE)
    html = html_of(curator.get(page(job)))
    assert "The first 100 errors" in html
    TrainingJob.objects.filter(pk=job.pk).update(bad_rows=2_345, errors_file=make_file(project))
    html = html_of(curator.get(page(job)))
    assert "The first 100 of 2,345." in html
    assert "Download all bad rows" in html
    assert '<td class="bs-number">77</td>' in html
    assert HOSTILE not in html


def test_what_was_left_out_is_a_download(curator: Client, job: TrainingJob, project: Project) -> None:
    assert "What was left out" not in html_of(curator.get(page(job)))
    file = make_file(project)
    TrainingJob.objects.filter(pk=job.pk).update(left_out=1_234, left_out_file=file)
    html = html_of(curator.get(page(job)))
    assert "What was left out (1,234)" in html
    address = reverse("admin:batches_file_download", args=[file.pk])
    assert f'href="{address}"' in html
    assert curator.get(address).status_code == 200
    assert outsider().get(address).status_code == 404


def test_hostile_names_stay_text(curator: Client, job: TrainingJob) -> None:
    TrainingJob.objects.update(suffix=HOSTILE, base_name=HOSTILE)
    JobEvent.objects.create(job=job, message=HOSTILE)
    for address in (LIST, page(job), page(job, "events"), page(job, "lineage"), f"{COMPARE}?job={job.uid}"):
        assert HOSTILE not in html_of(curator.get(address))


def test_it_is_paused_and_resumed(curator: Client, project: Project, model: Model) -> None:
    job = make_trained(project, model, status="queued", done=0)
    assert "saves what it has learned" in do(curator, job, "pause")
    assert TrainingJob.objects.get().status == "paused"
    assert ">Resume<" in html_of(curator.get(page(job)))
    assert "as soon as a device is free" in do(curator, job, "resume")
    assert "only a paused one" in do(curator, job, "resume")
    assert TrainingJob.objects.get().status == "queued"


def test_it_is_cancelled_and_tried_again(curator: Client, project: Project, model: Model) -> None:
    job = make_trained(project, model, status="queued", done=0)
    assert "being stopped" in do(curator, job, "cancel")
    assert "nothing to cancel" in do(curator, job, "cancel")
    assert "nothing to pause" in do(curator, job, "pause")
    assert "was deleted" in do(curator, job, "retry")
    assert TrainingJob.objects.get().status == "cancelled"


def test_viewers_look_and_change_nothing(project: Project, model: Model) -> None:
    job, viewer = make_trained(project, model, status="running", done=5), member(project, "viewer")
    html = html_of(viewer.get(page(job)))
    assert "trainingjob_do" not in html
    assert ">Cancel<" not in html
    for verb in ("cancel", "pause", "resume", "retry"):
        assert viewer.post(reverse("admin:training_trainingjob_do", args=[job.pk, verb])).status_code == 404
    assert TrainingJob.objects.get().cancel_requested_at is None


def test_owners_may_what_curators_may(project: Project, model: Model) -> None:
    job = make_trained(project, model, status="queued", done=0)
    assert "being stopped" in do(member(project, "owner"), job, "cancel")


def test_it_rejects_what_is_no_verb(curator: Client, job: TrainingJob) -> None:
    assert curator.post(reverse("admin:training_trainingjob_do", args=[job.pk, "explode"])).status_code == 404
    assert curator.get(reverse("admin:training_trainingjob_do", args=[job.pk, "cancel"])).status_code == 405


@pytest.mark.parametrize("number", ["0", "x", "9" * 30])
def test_it_rejects_a_job_that_is_not_there(curator: Client, number: str) -> None:
    assert curator.get(f"{LIST}{number}/change/").status_code == 404


def test_events_have_pages(curator: Client, job: TrainingJob) -> None:
    JobEvent.objects.bulk_create(JobEvent(job=job, message=f"event {number}") for number in range(120))
    html = html_of(curator.get(page(job)))
    assert "All of them" in html
    assert "event 119" in html
    assert "event 69" not in html
    assert "event 69" in html_of(curator.get(page(job, "events"), {"page": "2"}))
    for odd in ("0", "x", "999", "9" * 30):
        html_of(curator.get(page(job, "events"), {"page": odd}))


def test_the_lineage_goes_back_to_the_base(curator: Client, job: TrainingJob) -> None:
    make_deployment(job)
    html = html_of(curator.get(page(job, "lineage"))).partition('id="lineage"')[2]
    assert html.index(f"Model {job.model_name}") < html.index("Checkpoint") < html.index(f"Base model {job.base_name}")


def test_it_says_why_it_is_trained_so(curator: Client, job: TrainingJob) -> None:
    plan = {"steps": 15, "reason": "40 rows: 3 epochs.", "warning": "15 steps can <hardly> teach."}
    TrainingJob.objects.filter(pk=job.pk).update(plan=plan)
    html = html_of(curator.get(page(job, "change")))
    assert "40 rows: 3 epochs." in html
    assert "15 steps can &lt;hardly&gt; teach." in html


# Several


def test_jobs_are_compared(curator: Client, project: Project, model: Model) -> None:
    one = make_trained(project, model, suffix="one")
    two = make_trained(project, model, suffix="two", options={"learning_rate": 2e-3}, done=60)
    chosen = {"action": "compare", "_selected_action": [one.pk, two.pk]}
    answer = curator.post(LIST, chosen)
    html = html_of(curator.get(answer["Location"]))
    assert "learning_rate" in html.partition("What was different")[2]
    assert "<code>rank</code>" not in html
    series = json.loads(html.partition('id="compared" type="application/json">')[2].partition("</script>")[0])
    assert {each["label"] for each in series} == {"one", "two"}


def test_a_comparison_asks_a_query_or_two_for_each_job(curator: Client, project: Project, model: Model) -> None:
    jobs = [make_trained(project, model, suffix=f"job-{number}", done=5) for number in range(4)]
    two, four = (f"{COMPARE}?{'&'.join(f'job={job.uid}' for job in jobs[:count])}" for count in (2, 4))
    assert queries_of(curator, four) - queries_of(curator, two) <= 2 * 2


@pytest.mark.parametrize("query", ["", "job=", "job=%00", "job=x&job=x", "job=" + "9" * 400])
def test_a_comparison_of_nothing_says_so(curator: Client, query: str) -> None:
    assert "Nothing to compare" in html_of(curator.get(f"{COMPARE}?{query}"))

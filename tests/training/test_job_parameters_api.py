"""What POST /v1/fine_tuning/jobs takes and refuses."""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import create_api_key
from apps.models.models import Model
from apps.training.models import TrainingJob
from tests.batches.cast import expire
from tests.conftest import client
from tests.training.cast import make_file
from tests.training.jobs_api import PATH, form, post, refused

__all__ = ["form"]
pytestmark = pytest.mark.django_db


def supervised(**asked: Any) -> dict[str, Any]:
    return {"method": {"type": "supervised", "supervised": {"hyperparameters": asked}}}


def test_hyperparameters_become_options(api: APIClient, form: dict[str, Any]) -> None:
    asked = {"n_epochs": 5, "batch_size": 6, "learning_rate_multiplier": 2}
    method = {"type": "supervised", "supervised": {"hyperparameters": asked}}
    made = post(api, {**form, "method": method, "seed": 7}).json()
    assert made["hyperparameters"] == {"n_epochs": 5, "batch_size": 6, "learning_rate_multiplier": 2.0}
    options = made["options"]
    assert (options["epochs"], options["seed"]) == (5.0, 7)
    assert (options["batch_size"], options["accumulation"]) == (3, 2)
    assert made["seed"] == 7


@pytest.mark.parametrize(
    ("asked", "options"),
    [(1, (1, 1)), (2, (2, 1)), (7, (1, 7)), (64, (4, 16)), (251, (1, 251)), (256, (4, 64))],
)
def test_a_batch_is_as_large_as_asked(
    api: APIClient, form: dict[str, Any], asked: int, options: tuple[int, int]
) -> None:
    made = post(api, {**form, "hyperparameters": {"batch_size": asked}}).json()
    assert (made["options"]["batch_size"], made["options"]["accumulation"]) == options
    assert made["hyperparameters"]["batch_size"] == options[0] * options[1]


def test_kto(api: APIClient, form: dict[str, Any]) -> None:
    """A method of ours; what is "auto" follows from the thumbs, once they are counted."""
    asked = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": "auto", "batch_size": 5}
    made = post(api, {**form, "method": {"type": "kto", "kto": {"hyperparameters": asked}}}).json()
    assert made["method"] == {
        "type": "kto",
        **dict.fromkeys(("supervised", "dpo", "reinforcement")),
        "kto": {"hyperparameters": {**made["hyperparameters"], **asked}},
    }
    assert made["hyperparameters"].keys() == {"n_epochs", "batch_size", "learning_rate_multiplier"}
    job = TrainingJob.objects.get()
    assert (job.method, job.options["beta"], job.options["desirable_weight"]) == ("kto", 0.3, 1.5)
    assert "undesirable_weight" not in job.options
    assert (job.options["batch_size"], job.options["accumulation"]) == (5, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"batch_size": 1}},
        {"method": {"type": "kto", "kto": {"hyperparameters": {"batch_size": 1}}}},
    ],
)
def test_kto_needs_two_rows_at_once(api: APIClient, form: dict[str, Any], change: dict[str, Any]) -> None:
    answer = post(api, {**form, "method": {"type": "kto"}, **change})
    assert refused(answer)[0] in ("options.batch_size", "batch_size")
    assert "set batch_size to 2 or more" in answer.json()["error"]["message"]


def test_dpo(api: APIClient, form: dict[str, Any]) -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3, "n_epochs": "auto"}}}
    made = post(api, {**form, "method": method}).json()
    assert made["method"] == {
        "type": "dpo",
        "supervised": None,
        "dpo": {"hyperparameters": {**made["hyperparameters"], "beta": 0.3}},
        "reinforcement": None,
    }
    assert TrainingJob.objects.get().method == "dpo"


def test_our_own_options_count_more(api: APIClient, form: dict[str, Any]) -> None:
    own = {"rank": 32, "epochs": 1.5, "validation_share": 0.1}
    made = post(api, {**form, "hyperparameters": {"n_epochs": 9}, "options": own, "technique": "full"}).json()
    assert {key: made["options"][key] for key in own} == own
    assert (made["hyperparameters"]["n_epochs"], made["technique"]) == ("auto", "full")


def test_a_validation_file(api: APIClient, project: Project, form: dict[str, Any]) -> None:
    uid = make_file(project).uid
    assert post(api, {**form, "validation_file": uid}).json()["validation_file"] == uid


def test_nulls_are_as_good_as_nothing(api: APIClient, form: dict[str, Any]) -> None:
    names = ("validation_file", "suffix", "seed", "method", "hyperparameters", "integrations", "metadata")
    assert post(api, {**form, **dict.fromkeys(names)}).status_code == 200
    assert post(api, {**form, "integrations": [], "method": {"type": "dpo", "dpo": None}}).status_code == 200


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": "nobody"}, "model", "model_not_found"),
        ({"model": None}, "model", "invalid_value"),
        ({"model": "\0"}, "model", "invalid_value"),
        ({"training_file": "file-none"}, "training_file", "file_not_found"),
        ({"training_file": 5}, "training_file", "file_not_found"),
        ({"validation_file": "file-none"}, "validation_file", "file_not_found"),
        ({"suffix": "a b"}, "suffix", None),
        ({"suffix": "a" * 65}, "suffix", "invalid_value"),
        ({"suffix": ":"}, "suffix", None),
        ({"seed": -1}, "seed", "invalid_value"),
        ({"seed": 2**31}, "seed", "invalid_value"),
        ({"method": "sft"}, "method", "invalid_value"),
        ({"method": {}}, "method.type", "missing_required_parameter"),
        ({"method": {"type": "ppo"}}, "method.type", "invalid_value"),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {}}}}, "method.type", "unsupported"),
        ({"method": {"type": "dpo", "supervised": {"hyperparameters": {"n_epochs": 1}}}}, "method.supervised",
         "invalid_value"),
        (supervised(n_epochs=0), "method.supervised.hyperparameters.n_epochs", "invalid_value"),
        (supervised(n_epochs=51), "method.supervised.hyperparameters.n_epochs", "invalid_value"),
        (supervised(n_epochs=1.5), "method.supervised.hyperparameters.n_epochs", "invalid_value"),
        (supervised(n_epochs=True), "method.supervised.hyperparameters.n_epochs", "invalid_value"),
        (supervised(n_epochs="3"), "method.supervised.hyperparameters.n_epochs", "invalid_value"),
        (supervised(n_epochs=[]), "method.supervised.hyperparameters.n_epochs", "invalid_value"),
        (supervised(batch_size=257), "method.supervised.hyperparameters.batch_size", "invalid_value"),
        (supervised(learning_rate_multiplier=0), "method.supervised.hyperparameters.learning_rate_multiplier",
         "invalid_value"),
        (supervised(learning_rate_multiplier=1e999), "method.supervised.hyperparameters.learning_rate_multiplier",
         "invalid_value"),
        ({"hyperparameters": {"learning_rate_multiplier": 2001}}, "hyperparameters.learning_rate_multiplier",
         "invalid_value"),
        ({"hyperparameters": {"n_epochs": 1}, **supervised(n_epochs=1)}, "hyperparameters", "invalid_value"),
        ({"hyperparameters": 3}, "hyperparameters", "invalid_value"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations", "unsupported"),
        ({"integrations": "wandb"}, "integrations", "invalid_value"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "invalid_value"),
        ({"metadata": {"k": "v\0"}}, "metadata.k", "invalid_value"),
        ({"technique": "prefix"}, "technique", "invalid_value"),
        ({"options": {"rank": 0}}, "options.rank", None),
        ({"options": {"rank": "\ud800"}}, "options.rank", "invalid_value"),
        ({"options": {"ranks": 8}}, "options", None),
        ({"options": {"\ud800": 8}}, "options", "invalid_value"),
        ({"options": {"model": 8}}, "options", None),
        ({"options": {"targets": ["wq"]}}, "options.targets", None),
        ({"options": []}, "options", "invalid_value"),
    ],
)  # fmt: skip
def test_it_rejects_a_bad_parameter(
    api: APIClient, form: dict[str, Any], change: dict[str, Any], param: str, code: str | None
) -> None:
    body = json.dumps({**form, **change}).replace("Infinity", "1e999")
    assert refused(api.post(PATH, body, content_type="application/json")) == (param, code)
    assert not TrainingJob.objects.exists()


@pytest.mark.parametrize("missing", ["model", "training_file"])
def test_it_rejects_what_lacks_a_parameter(api: APIClient, form: dict[str, Any], missing: str) -> None:
    del form[missing]
    assert refused(post(api, form)) == (missing, "missing_required_parameter")


def test_it_rejects_a_file_of_another_purpose_or_past_its_time(
    api: APIClient, project: Project, form: dict[str, Any]
) -> None:
    assert (
        refused(post(api, {**form, "training_file": make_file(project, purpose="user_data").uid}))[0] == "training_file"
    )
    file = make_file(project)
    expire(file)
    assert refused(post(api, {**form, "training_file": file.uid})) == ("training_file", "file_not_found")


def test_it_rejects_an_adapter_and_a_model_that_embeds(api: APIClient, form: dict[str, Any], model: Model) -> None:
    Model.objects.create(name="adapter", path="/x", base=model)
    Model.objects.create(name="embedder", path="/x", runner="pooling")
    for name in ("adapter", "embedder"):
        assert refused(post(api, {**form, "model": name}))[0] == "model"


def test_it_rejects_a_model_that_the_key_may_not_use(project: Project, form: dict[str, Any]) -> None:
    narrow = client(create_api_key(project=project, name="narrow", allowed_models=["other"])[1])
    assert refused(post(narrow, form)) == ("model", "model_not_found")


def test_it_rejects_a_strangers_file_as_if_there_were_none(stranger: APIClient, form: dict[str, Any]) -> None:
    theirs = post(stranger, form)
    assert refused(theirs) == ("training_file", "file_not_found")
    nobodys = post(stranger, {**form, "training_file": "file-none"})
    assert (
        theirs.json()["error"]["message"].replace(form["training_file"], "file-none")
        == (nobodys.json()["error"]["message"])
    )

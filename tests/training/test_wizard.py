"""The form of a new fine-tuning: its ways to data, what it says will be taken, and what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from apps.accounts.models import Project
from apps.batches.models import File
from apps.datasets.models import Export, Run
from apps.models.models import Device, Model
from apps.training.admin.option_fields import SCHEMA
from apps.training.models import TrainingJob
from tests.datasets.exports import drive, exported, starred_run
from tests.training.cast import example, jsonl, make_file, preference
from tests.training.people import html_of, member, outsider, queries_of, said, signed_in
from tests.training.trained import make_trained

pytestmark = pytest.mark.django_db
with_a_worker = pytest.mark.django_db(transaction=True)  # exports are made in other threads

NEW, ESTIMATE, UPLOAD, STARS, COUNT = (
    reverse(f"admin:training_trainingjob_{name}") for name in ("add", "estimate", "upload", "stars", "stars_count")
)
CONFIG = {
    "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3,
    "num_hidden_layers": 30, "vocab_size": 49152, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture
def base(model: Model) -> Model:
    (model.folder / "config.json").write_text(json.dumps(CONFIG))
    Model.objects.filter(pk=model.pk).update(bytes=269_000_000)
    model.refresh_from_db()
    return model


@pytest.fixture
def curator(project: Project) -> Client:
    return member(project)


@pytest.fixture
def cpu(db: None) -> Device:
    return Device.objects.create(slot="gpu:box:cpu", name="AMD EPYC", memory_bytes=24 * 10**9)


def form(file: File, base: Model, **more: Any) -> dict[str, Any]:
    return {"file": file.uid, "model": base.name, "method": "sft", "technique": "lora", **more}


def test_it_works(curator: Client, project: Project, base: Model) -> None:
    file, valid = make_file(project), make_file(project)
    html = html_of(curator.get(NEW, {"file": file.uid}))
    assert f'<option value="{file.uid}" selected>' in html
    assert "About 134 M parameters: rank 16" in html
    more = {"suffix": "sums", "o_epochs": "2", "o_rank": "8", "o_targets": ["q_proj", "v_proj"], "o_packing": "true"}
    answer = curator.post(NEW, form(file, base, validation_file=valid.uid, **more))
    job = TrainingJob.objects.get()
    assert answer["Location"] == reverse("admin:training_trainingjob_change", args=[job.pk])
    assert (job.base, job.training_file, job.validation_file, job.suffix) == (base, file, valid, "sums")
    assert (job.options["epochs"], job.options["rank"], job.options["targets"]) == (2, 8, ["q_proj", "v_proj"])
    assert job.options["packing"] is True
    assert job.options["learning_rate"] == 1e-3, "what is usual for the model"
    assert job.chosen.keys() == {"epochs", "rank", "targets", "packing"}
    assert job.created_by


def test_it_says_what_it_will_take(curator: Client, project: Project, base: Model, cpu: Device) -> None:
    file = make_file(project)
    told = curator.post(ESTIMATE, form(file, base, o_epochs="2", o_validation_share="0.25")).json()
    assert (told["examples"], told["validation"], told["steps"], told["exact"]) == (9, 3, 10, True)
    assert told["reason"].startswith("9 rows, about ")
    assert "10 steps at a learning rate of 0.001 can hardly teach" in told["warning"]
    parts = {part["name"]: part["bytes"] for part in told["memory"]["parts"]}
    assert sum(parts.values()) == told["memory"]["total"] < told["memory"]["device_bytes"] == cpu.memory_bytes
    assert parts["weights"] == 269_000_000
    assert told["memory"]["sentence"].startswith("It takes about")
    assert told["problems"] == {}
    bigger = curator.post(ESTIMATE, form(file, base, o_batch_size="64", o_max_length="8192")).json()
    assert bigger["memory"]["total"] > told["memory"]["total"]


def test_it_says_that_it_does_not_fit(curator: Client, project: Project, base: Model, cpu: Device) -> None:
    Device.objects.update(memory_bytes=10**9)
    told = curator.post(ESTIMATE, form(make_file(project), base)).json()
    assert told["memory"]["verdict"] == "no"
    assert "choose a smaller batch_size" in told["memory"]["sentence"]


def test_a_half_filled_form_says_what_it_can(curator: Client, base: Model) -> None:
    assert curator.post(ESTIMATE).json() == {"usual": curator.post(ESTIMATE).json()["usual"], "problems": {}}
    told = curator.post(ESTIMATE, {"model": base.name}).json()
    assert "examples" not in told
    assert "No device has shown itself yet" in told["memory"]["sentence"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"hidden_size": "x"}', '{"num_attention_heads": 0}', "\x00"])
def test_it_survives_a_strange_configuration(curator: Client, base: Model, content: str, cpu: Device) -> None:
    (base.folder / "config.json").write_text(content)
    assert "is not known" in curator.post(ESTIMATE, {"model": base.name}).json()["memory"]["sentence"]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [("o_epochs", "0", "epochs cannot be 0"), ("o_epochs", "many", "epochs cannot be many"),
     ("o_learning_rate", "nan", "learning_rate cannot be nan"), ("o_rank", "8.5", "rank cannot be 8.5"),
     ("o_targets", "lm_head", "targets cannot be"), ("o_packing", "maybe", "packing cannot be maybe"),
     ("o_schedule", "steep", "schedule cannot be steep"), ("o_seed", "9" * 60, "seed cannot be"),
     ("o_max_steps", "-1", "max_steps cannot be -1"), ("suffix", "a b", "A suffix has 1 to 64 letters"),
     ("method", "magic", "method is one of"), ("technique", "dora", "technique is one of"),
     ("file", "file-x", "not there any more"),
     ("file", "", "Choose what the model learns from"), ("model", "gone", "This model is not there any more"),
     ("model", "", "Choose a base model"), ("validation_file", "file-x", "not there any more"),
     ("file", "a\0b", "not there any more"), ("model", "a\0b", "not there any more")],
)  # fmt: skip
def test_it_rejects_what_cannot_be(
    curator: Client, project: Project, base: Model, field: str, value: str, sentence: str
) -> None:
    answer = curator.post(NEW, form(make_file(project), base) | {field: value})
    html = html_of(answer)
    told = html.partition(f'data-problem="{field.removeprefix("o_")}"')[2].partition("</p>")[0]
    assert sentence in told, "at its field"
    assert not TrainingJob.objects.exists()


def test_what_was_typed_stays(curator: Client, project: Project, base: Model) -> None:
    html = html_of(curator.post(NEW, form(make_file(project), base, o_rank="999", suffix="mine")))
    assert 'name="o_rank" value="999"' in html
    assert 'value="mine"' in html
    assert "<details open>" in html


def test_validation_needs_other_examples(curator: Client, project: Project, base: Model) -> None:
    file = make_file(project)
    html = html_of(curator.post(NEW, form(file, base, validation_file=file.uid)))
    assert "Validation needs other examples" in html


def test_what_cannot_be_trained_says_why(curator: Client, base: Model, tmp_path: Path) -> None:
    Model.objects.create(name="embedder", path=str(tmp_path), runner="pooling")
    Model.objects.create(name="rider", path=str(tmp_path), base=base)
    Model.objects.create(name="halfway", path=str(tmp_path), ready=False)
    html = html_of(curator.get(NEW))
    for sentence in ("computes embeddings", "is an adapter", "install has not ended"):
        assert sentence in html


def test_settings_are_duplicated(curator: Client, project: Project, base: Model) -> None:
    file = make_file(project)
    chosen = {"learning_rate": 1e-3, "targets": ["q_proj"], "packing": True}
    like = make_trained(project, base, technique="full", options=chosen, training_file=file)
    TrainingJob.objects.update(training_file_uid=file.uid)
    html = html_of(curator.get(NEW, {"like": like.uid}))
    assert f'<option value="{file.uid}" selected>' in html
    assert 'name="o_learning_rate" value="0.001"' in html
    assert 'value="full" checked' in html
    assert 'name="o_rank" value=""' in html, "what was not chosen is left empty"
    curator.post(NEW, form(file, base, technique="full", o_learning_rate="0.001", o_targets="q_proj", o_packing="true"))
    again = TrainingJob.objects.exclude(pk=like.pk).get()
    assert {name: again.options[name] for name in chosen} == again.chosen == chosen


def test_what_is_usual_follows_the_file(curator: Client, project: Project, base: Model) -> None:
    few, many = (make_file(project, map(example, range(rows))) for rows in (40, 400))
    usual = [curator.post(ESTIMATE, form(file, base)).json()["usual"] for file in (few, many)]
    assert [int(each["epochs"]) for each in usual] == [23, 5]
    html = html_of(curator.get(NEW, {"file": few.uid, "model": base.name}))
    assert 'name="o_epochs" value="" placeholder="23"' in html
    told = curator.post(ESTIMATE, form(few, base)).json()
    assert (told["examples"], told["held_out"]) == (34, 6)


def test_every_option_has_a_field(curator: Client) -> None:
    html = html_of(curator.get(NEW))
    for name, field in SCHEMA.items():
        assert f'name="o_{name}"' in html
        assert field["description"].partition("'")[0] in html


def test_a_file_is_uploaded(curator: Client, project: Project) -> None:
    upload = SimpleUploadedFile("mine.jsonl", jsonl([example(1)]))
    answer = curator.post(UPLOAD, {"project": project.pk, "content": upload})
    file = File.objects.get()
    assert (file.project, file.purpose, file.filename) == (project, "fine-tune", "mine.jsonl")
    assert answer["Location"] == f"{NEW}?file={file.uid}"


def test_it_rejects_an_upload_elsewhere(curator: Client, project: Project) -> None:
    other = Project.objects.create(name="not mine")
    for number in (str(other.pk), "", "x", "9" * 30, "²"):
        upload = SimpleUploadedFile("mine.jsonl", b"{}")
        assert "Choose a project" in said(curator.post(UPLOAD, {"project": number, "content": upload}))
    assert "Choose a file" in said(curator.post(UPLOAD, {"project": project.pk}))
    assert not File.objects.exists()


# From stars


@pytest.fixture
def run(project: Project) -> Run:
    return starred_run(project)


@with_a_worker
@pytest.mark.parametrize(("method", "rows", "format"), [("sft", 3, "chat"), ("dpo", 2, "dpo"), ("kto", 5, "kto")])
def test_it_begins_with_stars(
    curator: Client,
    run: Run,
    base: Model,
    method: str,
    rows: int,
    format: str,  # noqa: A002
) -> None:
    chosen = {"dataset": run.dataset.uid, "run": run.uid, "method": method}
    assert run.name in html_of(curator.get(STARS, chosen))
    assert curator.get(COUNT, chosen).json() == {"rows": rows}
    wait = curator.post(STARS, chosen)["Location"]
    assert "The form follows by itself" in html_of(curator.get(wait))
    export = drive(Export.objects.get())
    assert export.file
    assert (export.format, export.rows) == (format, rows)
    wizard = curator.get(wait)["Location"]
    assert wizard == f"{NEW}?file={export.file.uid}"
    assert f'value="{method}" checked' in html_of(curator.get(wizard))
    told = curator.post(ESTIMATE, form(export.file, base, method=method)).json()
    assert (told["examples"], told["problems"]) == (rows, {})
    wrong = {"sft": "dpo", "dpo": "kto", "kto": "sft"}[method]
    assert (
        "choose another method"
        in curator.post(ESTIMATE, form(export.file, base, method=wrong)).json()["problems"]["method"]
    )


def test_it_says_that_there_are_no_stars(curator: Client, run: Run) -> None:
    for answer in run.columns.get(label="large").answers.all():
        answer.delete()
    html = html_of(curator.post(STARS, {"dataset": run.dataset.uid, "run": run.uid}))
    assert 'role="alert"' in html
    assert "Choose a dataset" in html_of(curator.post(STARS))
    assert curator.get(COUNT).json() == {"error": "Choose a dataset."}
    assert not Export.objects.exists()


@with_a_worker
def test_an_export_links_to_training(curator: Client, run: Run, project: Project) -> None:
    chat, alpaca = exported(run, "chat"), exported(run, "alpaca")
    page = {export: reverse("admin:datasets_export_change", args=[export.pk]) for export in (chat, alpaca)}
    assert f"{NEW}?export={chat.uid}" in html_of(curator.get(page[chat]))
    assert "Train on this" not in html_of(curator.get(page[alpaca]))
    assert "Train on this" not in html_of(member(project, "viewer").get(page[chat]))
    assert chat.file
    assert f'<option value="{chat.file.uid}" data-method="sft" selected>' in html_of(
        curator.get(NEW, {"export": chat.uid})
    )


# Who may


@with_a_worker
def test_strangers_find_nothing(project: Project, base: Model, run: Run) -> None:
    stranger, file, export = outsider(), make_file(project), exported(run, "chat")
    Model.objects.update(project=project)
    html = html_of(stranger.get(NEW, {"file": file.uid, "export": export.uid}))
    assert file.uid not in html
    assert base.name not in html
    assert stranger.get(reverse("admin:training_trainingjob_wait", args=[export.pk])).status_code == 404
    told = stranger.post(ESTIMATE, form(file, base)).json()
    assert {"examples", "memory"} & told.keys() == set()
    html_of(stranger.post(NEW, form(file, base)))
    assert not TrainingJob.objects.exists()


def test_it_rejects_viewers(project: Project, base: Model) -> None:
    viewer, file = member(project, "viewer"), make_file(project)
    for address in (NEW, STARS, COUNT):
        assert viewer.get(address).status_code == 404
    for address in (NEW, ESTIMATE, UPLOAD, STARS):
        assert viewer.post(address, form(file, base)).status_code == 404


def test_another_projects_model_is_not_offered(curator: Client, project: Project, base: Model, admin_user: Any) -> None:
    file, other = make_file(project), Project.objects.create(name="elsewhere too")
    Model.objects.update(project=other)
    everything = signed_in(admin_user)
    assert base.name in html_of(everything.get(NEW))
    assert base.name not in html_of(everything.get(NEW, {"file": file.uid}))
    assert "not there any more" in html_of(everything.post(NEW, form(file, base)))


@with_a_worker
def test_the_form_asks_a_constant_number_of_queries(curator: Client, project: Project, base: Model, run: Run) -> None:
    exported(run, "chat")
    make_file(project)
    before = queries_of(curator, NEW)
    for number in range(3):
        exported(run, "dpo", answers="starred_pairs")
        make_file(project, [preference(number)])
        Model.objects.create(name=f"model-{number}", path="/x")
    assert queries_of(curator, NEW) == before


def test_it_survives_a_file_whose_bytes_are_gone(curator: Client, project: Project, base: Model) -> None:
    file = make_file(project)
    Path(file.content.path).unlink()
    told = curator.post(ESTIMATE, form(file, base)).json()
    assert told["exact"] is False
    shutil.rmtree(base.folder)
    assert curator.post(ESTIMATE, form(file, base)).status_code == 200

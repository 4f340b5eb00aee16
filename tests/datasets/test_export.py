"""An export writes the chosen answers, and says how they were chosen."""

import json
import tomllib
from typing import Any

import pytest
from django.conf import settings

from apps.accounts.models import Project
from apps.batches.models import File
from apps.core import leases
from apps.core.errors import Conflict, DomainError
from apps.datasets import items
from apps.datasets.exports.formats import FORMATS
from apps.datasets.exports.job import KIND
from apps.datasets.exports.manifest import VERSION
from apps.datasets.exports.services import cancel_export, delete_export, start_export
from apps.datasets.models import Answer, Dataset, Example, Export, Preference, Rating, Review, Run, Star, Version
from apps.datasets.reviews.filters import Filters
from apps.events.models import Event
from tests.datasets.cast import make_reviewer, make_run, make_version, messages_of
from tests.datasets.exports import content, drive, exported, exporter, kept_of, lines, make_split, starred_run

pytestmark = pytest.mark.django_db(transaction=True)


def test_it_works(project: Project) -> None:
    run = starred_run(project)
    export = exported(run, "chat")
    asked, answer = messages_of("Capital of France?"), {"role": "assistant", "content": "Paris."}
    assert lines(export)[0] == {"messages": [*asked, answer]}
    assert (export.rows, export.done, export.total) == (3, 3, 3)
    assert export.file
    assert export.file.purpose == File.Purpose.FINE_TUNE
    assert export.file.filename == "capitals-v1-chat.jsonl"
    assert Event.objects.filter(type="export.completed", data={"id": export.uid}).exists()


def test_the_manifest_names_the_version_of_the_product() -> None:
    assert tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_the_manifest_says_how_rows_were_chosen(project: Project) -> None:
    run = starred_run(project)
    run.parameters = {"temperature": 0.5}
    run.save()
    run.columns.filter(label="large").update(revision="abc123")
    export = exported(run, "chat", filters=Filters(starred="yes"))
    assert export.manifest_file
    told = json.loads(export.manifest_file.content.open("rb").read())
    assert told == export.manifest
    assert told["dataset"]["name"] == "capitals"
    assert (told["version"], told["filters"], told["answers"]) == (1, {"starred": "yes"}, "starred")
    assert told["run"]["parameters"] == {"temperature": 0.5}
    assert {"label": "large", "model": "large", "revision": "abc123"} in told["models"]
    assert told["reviewers"] == {"mia": {"stars": 3, "ratings": 0, "thumbs": 0, "preferences": 0}}
    assert told["counts"] == {
        "rows": 3, "left_out": 0, "parts": {"train": 3}, "examples": 3, "without_answer": 0, "reasons": {},
    }  # fmt: skip
    assert export.file
    assert told["file"] == {
        "name": "capitals-v1-chat.jsonl", "bytes": export.file.bytes, "sha256": export.file.sha256,
    }  # fmt: skip


@pytest.mark.parametrize("chosen", ["chat", "prompt_completion", "alpaca", "sharegpt", "parquet", "huggingface"])
def test_the_same_export_twice_is_the_same_bytes(project: Project, chosen: str) -> None:
    run = starred_run(project)
    split = make_split(run, ["train", "validation", "train"])
    first, second = (exported(run, chosen, split=split) for _ in range(2))
    assert content(first) == content(second)
    manifests = [export.manifest_file.content.open("rb").read() for export in (first, second) if export.manifest_file]
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize("chosen", ["dpo", "trl", "parquet", "huggingface"])
def test_the_same_pairs_twice_are_the_same_bytes(project: Project, chosen: str) -> None:
    run = starred_run(project)
    first, second = (exported(run, chosen, answers="starred_pairs") for _ in range(2))
    assert content(first) == content(second)


def test_of_several_stars_most_reviewers_decide_then_the_earliest(project: Project) -> None:
    run = make_run(make_version(project), {"small": ["a", "b", "c"], "large": ["A", "B", "C"]})
    small, large = (
        list(Answer.objects.filter(column=column).order_by("example__number")) for column in run.columns.all()
    )
    people = [make_reviewer(project, name) for name in ("mia", "tom", "zoe")]
    for reviewer, answer in zip(people, (small[0], large[0], large[0]), strict=True):  # two against one
        Star.objects.create(example=answer.example, answer=answer, reviewer=reviewer, shared=False)
    for reviewer, answer in zip(people, (large[1], small[1]), strict=False):  # one each
        Star.objects.create(example=answer.example, answer=answer, reviewer=reviewer, shared=False)
    assert [line["messages"][-1]["content"] for line in lines(exported(run, "chat"))] == ["A", "B"]


def test_an_edit_can_be_the_gold_answer(project: Project) -> None:
    run = starred_run(project)
    star = Star.objects.get(example__number=2)
    edit = Answer.objects.create(
        column=star.answer.column, example=star.example, text="Lima, of course.", edit_of=star.answer,
        author=star.reviewer,
    )  # fmt: skip
    Star.objects.filter(pk=star.pk).update(answer=edit)
    assert lines(exported(run, "chat"))[1]["messages"][-1]["content"] == "Lima, of course."


def test_the_best_rated_answer(project: Project) -> None:
    run, mia = starred_run(project), make_reviewer(project, "tom")
    for label, value in (("small", 5), ("large", 3)):
        answer = Answer.objects.get(column__run=run, column__label=label, example__number=1)
        Rating.objects.create(answer=answer, reviewer=mia, value=value)
    assert [line["messages"][-1]["content"] for line in lines(exported(run, "chat", answers="best_rated"))] == ["Paris"]


def test_a_column_of_the_run(project: Project) -> None:
    run = make_run(make_version(project), {"small": ["Paris", None, "Accra"]})
    answers = [line["messages"][-1]["content"] for line in lines(exported(run, "chat", answers="column:small"))]
    assert answers == ["Paris", "Accra"]  # what failed is no answer


def test_a_version_with_its_references(project: Project) -> None:
    version = make_version(project)
    Example.objects.filter(number__lte=2).update(reference="Expected.")
    export = drive(start_export(dataset=version.dataset, format="chat"))
    assert export.spec["answers"] == "reference"
    assert [line["messages"][-1]["content"] for line in lines(export)] == ["Expected.", "Expected."]


def test_rejected_examples_and_filtered_ones_stay_out(project: Project) -> None:
    run = starred_run(project)
    first = Example.objects.get(number=1)
    Review.objects.create(example=first, reviewer=make_reviewer(project, "tom"), state=Review.State.REJECTED)
    items.refresh_reviews([first.pk])
    export = exported(run, "chat", filters=Filters(show="differs"))  # 1 and 3 differ, 1 is rejected
    assert [line["messages"][0]["content"] for line in lines(export)] == ["Capital of Ghana?"]
    version = drive(start_export(dataset=run.dataset, format="chat", answers="starred"))
    assert version.rows == 2


def test_a_part_of_a_split(project: Project) -> None:
    run = starred_run(project)
    split = make_split(run, ["train", "validation", "train"])
    export = exported(run, "chat", split=split, part="validation")
    assert [line["messages"][0]["content"] for line in lines(export)] == ["Capital of Peru?"]
    assert export.manifest["split"] == {"id": split.uid, "name": "thirds", "seed": 7, "part": "validation"}


def test_preferences_are_the_majoritys(project: Project) -> None:
    run = make_run(make_version(project), {"small": ["a", "b", "c"], "large": ["A", "B", "C"]})
    people = [make_reviewer(project, name) for name in ("mia", "tom", "zoe")]
    verdicts = {1: ("right", "right", "left"), 2: ("left", "right", "tie"), 3: ("left", "tie", "neither")}
    for number, given in verdicts.items():
        left, right = Answer.objects.filter(example__number=number).order_by("pk")
        for reviewer, verdict in zip(people, given, strict=True):
            Preference.objects.create(example=left.example, left=left, right=right, reviewer=reviewer, verdict=verdict)
    export = exported(run, "dpo")
    assert lines(export) == [
        {
            "input": {"messages": messages_of("Capital of France?")},
            "preferred_output": [{"role": "assistant", "content": "A"}],
            "non_preferred_output": [{"role": "assistant", "content": "a"}],
        }
    ]
    assert export.manifest["reviewers"]["mia"] == {"stars": 0, "ratings": 0, "thumbs": 0, "preferences": 3}


def test_the_gold_star_against_all_that_differ(project: Project) -> None:
    run = starred_run(project)
    pairs = [
        (line["chosen"][0]["content"], line["rejected"][0]["content"])
        for line in lines(exported(run, "trl", answers="starred_pairs"))
    ]
    assert pairs == [("Paris.", "Paris"), ("It is Accra.", "Accra")]  # for Peru both said the same


def test_pairs_that_the_examples_came_with(project: Project) -> None:
    version = make_version(project)
    Example.objects.filter(number=1).update(reference="Paris", rejected="Lyon")
    export = drive(start_export(dataset=version.dataset, format="trl", answers="reference_pairs"))
    assert lines(export)[0]["rejected"] == [{"role": "assistant", "content": "Lyon"}]
    assert export.rows == 1


def test_pairs_become_good_and_bad_answers(project: Project) -> None:
    run = starred_run(project)
    told = [
        (line["prompt"][0]["content"], line["completion"][0]["content"], line["label"])
        for line in lines(exported(run, "kto", answers="starred_pairs"))
    ]
    france, peru, ghana = ("Capital of France?", "Capital of Peru?", "Capital of Ghana?")
    assert told == [
        (france, "Paris.", True), (france, "Paris", False), (peru, "Lima", True),
        (ghana, "It is Accra.", True), (ghana, "Accra", False),
    ]  # fmt: skip


def test_good_and_bad_answers_that_the_examples_came_with(project: Project) -> None:
    version = make_version(project)
    Example.objects.filter(number=1).update(reference="Paris", rejected="Lyon")
    Example.objects.filter(number=3).update(rejected="Kumasi")
    export = drive(start_export(dataset=version.dataset, format="kto"))
    assert export.spec["answers"] == "reference_labels"
    assert [(line["completion"][0]["content"], line["label"]) for line in lines(export)] == [
        ("Paris", True), ("Lyon", False), ("Kumasi", False),
    ]  # fmt: skip


def test_tools_are_kept(project: Project) -> None:
    run = starred_run(project)
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]
    Example.objects.filter(number=1).update(data=json.dumps({"messages": [], "tools": tools}))
    assert [line.get("tools") for line in lines(exported(run, "chat"))] == [tools, None, None]


def test_what_a_format_has_no_place_for_is_left_out_and_counted(project: Project) -> None:
    run = starred_run(project)
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    Example.objects.filter(number=1).update(messages=json.dumps(image))
    export = exported(run, "alpaca")
    assert (export.rows, export.manifest["counts"]["left_out"]) == (2, 1)
    assert export.message.startswith("1 of the rows were left out")
    assert lines(exported(run, "chat"))[0]["messages"][0] == image[0]


def test_hostile_contents_stay_data(project: Project) -> None:
    texts = ["<script>alert(1)</script>", '{{ 7*7 }} ${7*7} \u202e\x1b[31m "\\', "=cmd|'/C calc'!A0\u2028x"]
    run = make_run(make_version(project, texts), {"small": texts})
    run.columns.update(label="{examples}') ; DROP TABLE datasets_example; --")
    export = exported(run, "chat", answers="column:{examples}') ; DROP TABLE datasets_example; --")
    assert [[message["content"] for message in line["messages"]] for line in lines(export)] == [[t, t] for t in texts]
    assert content(export).count(b"\n") == 3


def test_half_a_surrogate_pair_is_written_as_a_question_mark(project: Project) -> None:
    run = starred_run(project)
    Example.objects.filter(number=1).update(messages='[{"role": "user", "content": "caf\\u00e9 \\ud83d"}]')
    assert lines(exported(run, "chat"))[0]["messages"][0]["content"] == "caf\u00e9 ?"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "format": ({"format": "word"}, "No format is called 'word'; choose from chat, "),
    "answers": ({"answers": "all"}, "answers is one of starred, "),
    "pairs": ({"answers": "preferences"}, "OpenAI chat takes one answer each: choose starred, "),
    "no pairs": ({"format": "dpo", "answers": "starred"}, "OpenAI preference pairs are pairs: choose preferences, "),
    "column": ({"answers": "column:other"}, "The run has no column 'other'."),
    "part": ({"part": "train"}, "A part is a part of a split: choose the split too."),
    "nothing": ({"answers": "best_rated"}, "There is nothing to export: no example that was asked for has such an"),
    "push": ({"repository": "a/b"}, "Only a Hugging Face folder can be pushed: choose it."),
    "name": ({"format": "huggingface", "repository": "a b"}, "A repository is named owner/name"),
    "token": ({"format": "huggingface", "repository": "a/b"}, "The project has no token of the hub: save one"),
    "filters": ({"run": None, "filters": Filters(show="differs")}, "Filters are about the items of a run"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_rejects(project: Project, case: str) -> None:
    run = starred_run(project)
    choices, sentence = REFUSED[case]
    with pytest.raises(DomainError) as refused:
        start_export(**{"dataset": run.dataset, "format": "chat", "run": run, **choices})
    assert refused.value.message.startswith(sentence)
    assert not Export.objects.exists()


def test_it_rejects_what_belongs_to_another_dataset(project: Project) -> None:
    run = starred_run(project)
    other = make_run(make_version(project, name="other"), {"small": ["a", "b", "c"]})
    with pytest.raises(DomainError, match="belongs to another dataset"):
        start_export(dataset=run.dataset, format="chat", run=other)
    with pytest.raises(DomainError, match="belongs to another dataset"):
        start_export(dataset=run.dataset, format="chat", run=run, split=make_split(other, ["train"] * 3))


def test_it_rejects_an_empty_dataset(project: Project) -> None:
    with pytest.raises(DomainError, match="has no examples yet"):
        start_export(dataset=Dataset.objects.create(project=project, name="empty"), format="chat")


def test_it_fails_when_every_row_is_left_out(project: Project) -> None:
    run = starred_run(project)
    Example.objects.update(messages=json.dumps([{"role": "tool", "content": "x", "tool_call_id": "1"}]))
    export = drive(start_export(dataset=run.dataset, format="sharegpt", run=run))
    assert (export.status, export.file) == (Export.Status.FAILED, None)
    assert export.message.startswith("3 of the rows were left out: this format has no place")
    assert kept_of(export) == []


def test_it_survives_that_its_run_is_deleted(project: Project) -> None:
    run = starred_run(project)
    export = start_export(dataset=run.dataset, format="chat", run=run)
    Run.objects.all().delete()
    assert drive(export).message.startswith("The run, version or split of this export was deleted")


def test_it_can_be_cancelled_before_and_not_after(project: Project) -> None:
    export = start_export(dataset=starred_run(project).dataset, format="chat", answers="starred")
    assert cancel_export(export=export)
    assert not cancel_export(export=export)
    assert drive(export).status == Export.Status.CANCELLED
    assert export.file is None
    assert not cancel_export(export=export)


def test_it_survives_a_worker_that_loses_its_lease(project: Project) -> None:
    """Another took over: what the first one wrote is not kept, and the export is not ended twice."""
    export = start_export(dataset=starred_run(project).dataset, format="chat", answers="starred")
    with exporter() as keeper:
        assert KIND.duty(keeper)
        keeper._held.clear()
        assert KIND.crew.wait(30)
    export.refresh_from_db()
    assert export.status in (Export.Status.QUEUED, Export.Status.RUNNING, Export.Status.COMPLETED)
    export = drive(export)
    assert (export.status, Event.objects.filter(type="export.completed").count()) == (Export.Status.COMPLETED, 1)
    assert len(kept_of(export)) == 2


def test_a_fenced_worker_leaves_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    export = start_export(dataset=starred_run(project).dataset, format="chat", answers="starred")

    def fenced(*_: Any) -> None:
        raise leases.Fenced

    with monkeypatch.context() as patched, exporter() as keeper:
        patched.setattr(leases, "fence", fenced)
        assert KIND.duty(keeper)
        assert KIND.crew.wait(30)
    export.refresh_from_db()
    assert (export.status, kept_of(export), File.objects.count()) == (Export.Status.RUNNING, [], 0)


def test_deleting_takes_the_files_along(project: Project) -> None:
    export = exported(starred_run(project), "chat")
    delete_export(export=export)
    assert not Export.objects.exists()
    assert not File.objects.exists()
    assert kept_of(export) == []


def test_it_rejects_deleting_what_goes_on(project: Project) -> None:
    export = start_export(dataset=starred_run(project).dataset, format="chat", answers="starred")
    with pytest.raises(Conflict, match="cancel it first"):
        delete_export(export=export)


def test_a_version_does_not_change_meanwhile(project: Project) -> None:
    run = starred_run(project)
    Example.objects.update(reference="Expected.")
    export = start_export(dataset=run.dataset, format="chat")
    second = Version.objects.create(dataset=run.dataset, number=2)
    Example.objects.filter(number=1).update(removed_in=second.number)
    assert drive(export).rows == 3


@pytest.mark.parametrize("chosen", [name for name, known in FORMATS.items() if known.suffix == ".jsonl"])
def test_no_character_breaks_a_line(project: Project, chosen: str) -> None:
    text = "one\u2028two\u2029three\x85four\rfive\x1csix"
    run = make_run(make_version(project, [text] * 2, name=f"lines\u2028{chosen}"), {"a": [text] * 2, "b": ["no"] * 2})
    mia = make_reviewer(project)
    for answer in Answer.objects.filter(column__run=run, column__label="a"):
        Star.objects.create(example_id=answer.example_id, answer=answer, reviewer=mia, shared=True)
    items.refresh_reviews(list(Example.objects.filter(items__run=run).values_list("pk", flat=True)))
    export = exported(run, chosen, answers="starred" if FORMATS[chosen].answers else "starred_pairs")
    written = content(export).decode()
    rows = 4 if FORMATS[chosen].labels else 2  # good and bad answers are rows of their own
    assert len(written.splitlines()) == written.count("\n") == rows
    assert all(json.dumps(text)[1:-1] in json.dumps(json.loads(line)) for line in written.splitlines())
    assert export.manifest_file
    manifest = export.manifest_file.content.open("rb").read().decode()
    assert len(manifest.splitlines()) == manifest.count("\n")
    assert json.loads(manifest) == export.manifest

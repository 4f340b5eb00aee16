"""A job's files: checked, split, counted, refused with line numbers; whatever happens in between."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from apps.accounts.models import Project
from apps.batches.services import delete_file
from apps.core import leases
from apps.events.models import Event
from apps.models.models import Device, Model
from apps.models.services import register_model
from apps.models.slots import Slot
from apps.training.estimates import parameters_of
from apps.training.files import preparing, validation
from apps.training.files.validation import CREW, purge_prepared, validate_next
from apps.training.models import TrainingJob
from apps.training.services import cancel_job, duplicate_job, pause_job, resume_job
from apps.training.spec import LEFT_OUT
from tests.training.cast import example, make_file, make_job, preference, thumb
from tests.training.tiny import DEMO_MODEL

pytestmark = pytest.mark.django_db(transaction=True)

LARGE = 2_000  # rows: enough for something to happen in between


@pytest.fixture
def keeper() -> Iterator[leases.Keeper]:
    keeper = leases.Keeper()
    yield keeper
    assert CREW.wait(30)
    keeper.close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.TRAINING_DIR = tmp_path / "training"
    return tmp_path / "training"


@pytest.fixture
def base(db: None) -> Model:
    """A model with a real tokenizer."""
    return register_model(name="base", path=DEMO_MODEL)


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """There is no trainer, so tokens are estimated, which is quick."""
    settings.TRAINER_PYTHON = Path("/nowhere/python")


def work(keeper: leases.Keeper) -> None:
    """Validate all that waits."""
    while validate_next(keeper):
        assert CREW.wait(60)


def read(job: TrainingJob, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.folder / name).read_bytes().splitlines()]


def rows_of(job: TrainingJob, name: str) -> list[dict[str, Any]]:
    """Without the line numbers of the user's file."""
    rows = read(job, name)
    assert all(row.pop("line") > 0 for row in rows)
    return rows


def told(job: TrainingJob) -> list[str]:
    return list(job.events.order_by("pk").values_list("message", flat=True))


def test_it_works(project: Project, base: Model, keeper: leases.Keeper) -> None:
    job = make_job(project, base)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.examples, job.valid_examples, job.message) == ("queued", 12, 0, "")
    assert read(job, "train.jsonl") == [{"line": number + 1, **example(number)} for number in range(12)]
    assert [path.name for path in job.folder.iterdir()] == ["train.jsonl"]
    assert told(job)[-2:] == ["Validated 12 training examples, 539 tokens.", job.plan["reason"]]


def test_what_was_not_chosen_follows_the_rows(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None
) -> None:
    few, many = (
        make_job(project, base, make_file(project, map(example, range(rows))), options={"rank": 4})
        for rows in (40, 3_000)
    )
    work(keeper)
    for job in (few, many):
        job.refresh_from_db()
        assert (job.options["rank"], job.chosen) == (4, {"rank": 4})
        assert job.plan["held_out"] == round(job.options["held_out_share"] * (job.examples + job.plan["held_out"]))
        assert f"{job.options['epochs']:g} epochs" in job.plan["reason"]
        assert told(job)[-1] == job.plan["reason"]
    assert few.options["epochs"] > many.options["epochs"]
    assert few.options["accumulation"] < many.options["accumulation"]
    again = duplicate_job(job=few, training_file=many.training_file)
    work(keeper)
    again.refresh_from_db()
    assert (again.options, again.plan) == (many.options, many.plan), "found anew, for its own rows"


@pytest.mark.parametrize(
    ("options", "parts"),
    [({}, (19, 0, 0)), ({}, (14, 0, 6)), ({}, (34, 0, 6)), ({}, (108, 0, 12)), ({}, (884, 0, 16)),
     ({"held_out_share": 0}, (40, 0, 0)), ({"held_out_share": 0.5}, (20, 0, 20)), ({"held_out_share": 0.1}, (11, 0, 1)),
     ({"validation_share": 0.1}, (36, 4, 0)), ({"validation_share": 0.1, "held_out_share": 0.2}, (28, 4, 8))],
)  # fmt: skip
def test_some_rows_are_held_out_for_a_deployment(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, options: dict[str, Any],
    parts: tuple[int, int, int],
) -> None:  # fmt: skip
    rows, (learned, validates, held_out) = sum(parts), parts
    job = make_job(project, base, make_file(project, map(example, range(rows))), options=options)
    work(keeper)
    job.refresh_from_db()
    assert (job.examples, job.valid_examples, job.plan["held_out"]) == (learned, validates, held_out)
    kept = read(job, "train.jsonl") + (read(job, "valid.jsonl") if validates else [])
    assert len(kept) == rows - held_out
    assert len({row["messages"][0]["content"] for row in kept}) == len(kept), "each once"
    assert (job.folder / "valid.jsonl").exists() == bool(validates)
    assert any(f"{held_out} more are held out" in message for message in told(job)) == bool(held_out)


def test_a_training_that_is_too_short_is_said_to_be(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None
) -> None:
    job = make_job(project, base, options={"epochs": 3}, hyperparameters={"learning_rate_multiplier": 0.5})
    work(keeper)
    job.refresh_from_db()
    last = job.events.latest("pk")
    assert (last.level, last.message) == ("warn", job.plan["warning"])
    assert "18 steps at a learning rate of 0.0005 can hardly teach" in last.message
    assert job.options["epochs"] == 3, "and is done as it was set"


def test_what_it_takes_is_told_before_it_starts(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None
) -> None:
    Device.objects.create(slot=Slot.here("cpu").key, name="A processor", memory_bytes=10**9)
    job = make_job(project, base)
    work(keeper)
    job.refresh_from_db()
    assert 134_000_000 < parameters_of(base) < 136_000_000
    assert job.estimate["weights"] == pytest.approx(2 * parameters_of(base), rel=0.3)
    assert job.estimate["total"] == sum(size for part, size in job.estimate.items() if part != "total") > 10**9
    last = job.events.latest("pk")
    assert last.level == "warn"
    assert "the device has 1.0 GB: choose a smaller batch_size" in last.message


def test_a_model_of_an_unknown_kind_has_no_estimate(
    project: Project, model: Model, keeper: leases.Keeper, uncounted: None
) -> None:
    job = make_job(project, model)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.estimate) == ("queued", {})


def test_a_validation_file_is_read_too(project: Project, base: Model, keeper: leases.Keeper, uncounted: None) -> None:
    job = make_job(project, base, validation_file=make_file(project, [example(100)]), options={"validation_share": 0.5})
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.examples, job.valid_examples) == ("queued", 12, 1)
    assert rows_of(job, "valid.jsonl") == [example(100)]
    assert told(job)[-2].endswith(" tokens, and 1 to validate with.")
    assert "about" in told(job)[-2]


def test_preferences(project: Project, base: Model, keeper: leases.Keeper) -> None:
    job = make_job(project, base, make_file(project, map(preference, range(10))), method="dpo")
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.examples) == ("queued", 10)
    first = preference(0)
    assert rows_of(job, "train.jsonl")[0] == {
        "input": first["input"],
        "preferred_completion": first["preferred_output"],
        "non_preferred_completion": first["non_preferred_output"],
    }


def test_the_share_is_chosen_by_the_seed(project: Project, base: Model, keeper: leases.Keeper, uncounted: None) -> None:
    file = make_file(project, map(example, range(200)))
    seeds = (1, 1, 2)
    jobs = [make_job(project, base, file, options={"validation_share": 0.1, "seed": seed}) for seed in seeds]
    work(keeper)
    apart = [rows_of(job, "valid.jsonl") for job in jobs]
    assert apart[0] == apart[1] != apart[2]
    for job, valid in zip(jobs, apart, strict=True):
        job.refresh_from_db()
        train = rows_of(job, "train.jsonl")
        assert (job.examples, job.valid_examples, len(train), len(valid)) == (180, 20, 180, 20)
        assert sorted(map(str, train + valid)) == sorted(str(example(number)) for number in range(200))
        assert valid != [example(number) for number in range(20)]


@pytest.mark.parametrize(("share", "apart"), [(0.001, 1), (0.5, 6)])
def test_a_share_is_one_row_at_least(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, share: float, apart: int
) -> None:
    job = make_job(project, base, options={"validation_share": share})
    work(keeper)
    job.refresh_from_db()
    assert (job.examples, job.valid_examples) == (12 - apart, apart)


def test_thumbs(project: Project, base: Model, keeper: leases.Keeper, uncounted: None) -> None:
    rows = [thumb(number, up=number % 3 > 0) for number in range(12)]
    job = make_job(project, base, make_file(project, rows), method="kto")
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.examples) == ("queued", 12)
    first = thumb(0, up=False)
    assert rows_of(job, "train.jsonl")[0] == {
        "input": {"messages": first["prompt"]}, "completion": first["completion"], "label": False,
    }  # fmt: skip
    assert not {validation.ONLY_UP, validation.ONLY_DOWN} & set(told(job))


@pytest.mark.parametrize("up", [True, False])
def test_thumbs_of_one_kind_are_taken_with_a_warning(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, up: bool
) -> None:
    rows = [thumb(number, up=up) for number in range(12)]
    job = make_job(project, base, make_file(project, rows), method="kto")
    work(keeper)
    job.refresh_from_db()
    assert job.status == "queued"
    assert (validation.ONLY_UP if up else validation.ONLY_DOWN) in told(job)


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_thumbs_are_learned_by_no_other_method(
    project: Project, base: Model, keeper: leases.Keeper, method: str
) -> None:
    job = make_job(project, base, make_file(project, [thumb(n, up=n > 3) for n in range(12)]), method=method)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, (job.errors or [])[0]["code"]) == ("failed", "wrong_method")
    assert "create the job with the method 'kto'" in job.message


def test_keys_that_are_not_used_are_told(project: Project, base: Model, keeper: leases.Keeper, uncounted: None) -> None:
    rows: list[Any] = [example(number) | {"source": "web"} for number in range(12)]
    rows[3]["messages"][0]["score"] = 4
    job = make_job(project, base, make_file(project, rows))
    work(keeper)
    job.refresh_from_db()
    assert (job.status, rows_of(job, "train.jsonl")) == ("queued", [example(number) for number in range(12)])
    event = job.events.filter(level="warn").latest("-pk")
    assert event.message == (
        "Keys of the file that are not used: 'source' (12 rows), 'messages[].score' (1 row). "
        "Nothing of the conversations is lost with them."
    )
    assert event.data == {"unused": {"source": 12, "messages[].score": 1}}


def test_plain_text_for_a_model_that_chats_is_said_to_be(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None
) -> None:
    texts = [{"prompt": f"{number} is", "completion": " a number."} for number in range(12)]
    job = make_job(project, base, make_file(project, texts))
    work(keeper)
    job.refresh_from_db()
    assert job.status == "queued"
    assert validation.PLAIN_TEXT in told(job)


def test_it_rejects_bad_lines_with_their_numbers(project: Project, base: Model, keeper: leases.Keeper) -> None:
    rows = [*map(example, range(10)), b"{no", b"", {"messages": []}, preference(1)]
    job = make_job(project, base, make_file(project, rows))
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.error_code, job.error_param) == ("failed", "invalid_training_file", "training_file")
    assert [(error["line"], error["code"]) for error in job.errors or []] == [
        (11, "invalid_json"), (13, "empty_messages"), (14, "wrong_method"),
    ]  # fmt: skip
    assert {error["file"] for error in job.errors or []} == {job.training_file_uid}
    assert job.message.startswith("The training file cannot be used. Line 11: It is not valid JSON")
    assert job.message.endswith("3 lines have errors; this is the first.")
    assert told(job)[-1] == job.message
    assert list(job.folder.iterdir()) == []
    assert list(Event.objects.filter(type="fine_tuning.job.failed").values_list("data", flat=True)) == [{"id": job.uid}]


def test_at_most_a_hundred_errors_are_kept(project: Project, base: Model, keeper: leases.Keeper) -> None:
    job = make_job(project, base, make_file(project, [b"{"] * 300))
    work(keeper)
    job.refresh_from_db()
    assert len(job.errors or []) == 100
    assert "100 or more lines have errors" in job.message


def test_it_rejects_a_bad_validation_file(project: Project, base: Model, keeper: leases.Keeper) -> None:
    job = make_job(project, base, validation_file=make_file(project, [preference(1)]))
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.error_code, job.error_param) == ("failed", "invalid_validation_file", "validation_file")
    assert [error["file"] for error in job.errors or []] == [job.validation_file_uid]
    assert not (job.folder / "train.jsonl").exists()


def test_it_rejects_too_few_examples(project: Project, base: Model, keeper: leases.Keeper, settings: Any) -> None:
    file = make_file(project, map(example, range(9)))
    job = make_job(project, base, file)
    work(keeper)
    job.refresh_from_db()
    assert [(error["line"], error["code"]) for error in job.errors or []] == [(None, "too_few_rows")]
    assert job.message == (
        "The training file cannot be used. The file holds 9 examples, and at least 10 are needed: add some."
    )
    settings.TRAINING_MIN_EXAMPLES = 9
    again = make_job(project, base, file)
    work(keeper)
    again.refresh_from_db()
    assert again.status == "queued"


def test_what_is_left_out_is_told_before_a_device_is_taken(
    project: Project, base: Model, keeper: leases.Keeper
) -> None:
    """With the lines of the user's own file, in which blank lines count."""
    long = {"messages": [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "Yes."}]}
    rows = [line for number in range(6) for line in (long, b"", example(number))]
    job = make_job(project, base, make_file(project, rows), options={"max_length": 256, "validation_share": 0.3})
    work(keeper)
    job.refresh_from_db()
    assert job.status == "queued"
    events = job.events.filter(level="warn", data__has_key="left_out").order_by("pk")
    parts = [event.data["left_out"] for event in events]
    assert [part["file"] for part in parts] == ["training_file", "validation_file"]
    assert sorted(line["line"] for part in parts for line in part["lines"]) == [1, 4, 7, 10, 13, 16]
    assert [part["of"] for part in parts] == [8, 4]
    count = parts[0]["count"]
    assert events[0].message.startswith(
        f"{count} of 8 training examples are left out: its first 256 tokens have no answer: raise max_length."
    )
    assert f"The longest needs {parts[0]['longest']} tokens. Lines " in events[0].message
    kept = [json.loads(line) for line in (job.folder / LEFT_OUT).read_bytes().splitlines()]
    assert sorted(line["line"] for line in kept) == [1, 4, 7, 10, 13, 16]
    assert {line["file"] for line in kept} == {"training", "validation"}


def test_it_rejects_files_of_which_nothing_can_be_learned(project: Project, base: Model, keeper: leases.Keeper) -> None:
    job = make_job(project, base, options={"max_length": 16})
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.error_code, job.error_param) == ("failed", "invalid_training_file", "training_file")
    assert "12 of 12 training examples are left out" in job.message
    assert "The longest needs 4" in job.message
    assert [error["line"] for error in job.errors or []] == list(range(1, 13))


def test_it_rejects_a_model_that_cannot_learn_chats(project: Project, keeper: leases.Keeper, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(DEMO_MODEL, folder, ignore=shutil.ignore_patterns("chat_template.jinja"))
    job = make_job(project, register_model(name="bare", path=folder))
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.error_code, job.error_param) == ("failed", "invalid_model", "model")
    assert job.message.startswith("The model has no chat template")


@pytest.mark.parametrize("bytes_only", [False, True])
def test_it_rejects_a_file_that_was_deleted(
    project: Project, base: Model, keeper: leases.Keeper, bytes_only: bool
) -> None:
    file = make_file(project)
    job = make_job(project, base, file)
    if bytes_only:
        file.content.delete(save=False)
    else:
        delete_file(file=file)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.error_code) == ("failed", "invalid_training_file")
    assert [error["code"] for error in job.errors or []] == ["file_not_found"]


def test_it_rejects_a_model_that_is_gone(project: Project, base: Model, keeper: leases.Keeper) -> None:
    job = make_job(project, base)
    TrainingJob.objects.update(base=None)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.error_code, job.error_param) == ("failed", "invalid_model", "model")


def test_a_job_that_shall_pause_is_paused_and_goes_on(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None
) -> None:
    job = make_job(project, base)
    assert pause_job(job=job)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.examples) == ("paused", 12)
    assert resume_job(job=job)
    assert job.status == "queued"


def test_it_stops_when_the_job_is_cancelled_meanwhile(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(project, base, make_file(project, map(example, range(LARGE))))
    _meanwhile(monkeypatch, lambda: cancel_job(job=job))
    work(keeper)
    job.refresh_from_db()
    assert job.status == "cancelled"
    assert list(job.folder.iterdir()) == []


def test_it_survives_a_take_over(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(project, base)

    def take_over() -> None:
        with connection.cursor() as cursor:
            leases.revoke(cursor, [f"training-files:{job.pk}"])

    _meanwhile(monkeypatch, take_over)
    assert validate_next(keeper)
    assert CREW.wait(30)
    job.refresh_from_db()
    assert job.status == "validating_files"
    monkeypatch.undo()
    work(keeper)
    job.refresh_from_db()
    assert job.status == "queued"


def test_it_survives_a_kill(project: Project, base: Model, keeper: leases.Keeper, uncounted: None) -> None:
    """What a killed worker left, however far it came, does no harm and is taken away."""
    job = make_job(project, base, options={"validation_share": 0.25})
    drafts = job.folder / "preparing.left"
    drafts.mkdir(parents=True)
    (drafts / "train.jsonl").write_bytes(b'{"messages"')
    (job.folder / "train.jsonl").write_bytes(b'{"messages": "half')
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.examples, job.valid_examples) == ("queued", 9, 3)
    assert sorted(path.name for path in job.folder.iterdir()) == ["train.jsonl", "valid.jsonl"]
    assert len(read(job, "train.jsonl")) == 9


def test_it_survives_a_full_disk(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(project, base)
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "_flush", _full)
        assert validate_next(keeper)
        CREW._at_work[job.pk].join(30)
        assert not validate_next(keeper)  # it rests
    job.refresh_from_db()
    assert (job.status, job.message) == ("validating_files", validation.NO_SPACE)
    assert CREW.wait(30)
    work(keeper)
    job.refresh_from_db()
    assert (job.status, job.message) == ("queued", "")


def test_prepared_files_go_when_their_job_has_ended(
    project: Project, base: Model, keeper: leases.Keeper, uncounted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, waiting = (make_job(project, base, options={"validation_share": 0.25}) for _ in range(2))
    work(keeper)
    cancel_job(job=ended)
    (ended.folder / "checkpoint-5").mkdir()
    (ended.folder / "preparing.left").mkdir()
    monkeypatch.setattr(validation, "_last_look", -validation.PAUSE)
    purge_prepared(keeper)
    assert [path.name for path in ended.folder.iterdir()] == ["checkpoint-5"]
    assert sorted(path.name for path in waiting.folder.iterdir()) == ["train.jsonl", "valid.jsonl"]


def _full(file: Any) -> None:
    raise OSError(28, "No space left on device")


def _meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have it happen, on a connection of its own, before the files get their names."""
    real, done = preparing._checked, threading.Event()

    def run() -> None:
        act()
        connections.close_all()

    def checked(*arguments: Any) -> Any:
        rows = real(*arguments)
        if not done.is_set():
            done.set()
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        return rows

    monkeypatch.setattr(preparing, "_checked", checked)

"""Who plays in the browser tests of fine-tuning: a model, starred answers, and later on trainings as rows."""

import json

from django.conf import settings

from apps.accounts.models import Project
from apps.datasets import items
from apps.datasets.models import Answer, Example, Star
from apps.models.models import Model
from apps.models.services import register_model
from apps.training.models import TrainingJob
from tests.browser import cast
from tests.datasets.cast import make_reviewer, make_run, make_version
from tests.training.trained import hold, make_deployment, make_trained

DATASET, EXAMPLES, STEP_SECONDS = "doors", 24, 0.2
DEMO_MODEL = settings.BASE_DIR / "var/models/smollm2-135m-instruct"  # made by `make setup`
CODES = {"Amber": 4821, "Birch": 7350, "Coral": 1968, "Dune": 6204, "Ember": 3517, "Fjord": 9046}
QUESTIONS = (
    "What is the code of the {} door?", "Which code opens the {} door?", "Tell me the {} door's code.",
    "I am at the {} door. What do I type?", "{} door: code?", "How do I open the {} door?",
    "Please give me the code for the {} door.", "Do you know the code of door {}?",
)  # fmt: skip
CONFIG = {
    "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3,
    "num_hidden_layers": 30, "vocab_size": 49152, "tie_word_embeddings": True,
}  # fmt: skip


def main() -> None:
    """A model that the fake trainer takes its time with, and a dataset whose answers of one column are starred."""
    base, project = Model.objects.get(name=cast.MODEL), Project.objects.get(name=cast.PROJECT)
    (base.folder / "config.json").write_text(json.dumps(CONFIG))
    (base.folder / "fake_trainer.json").write_text(json.dumps({"step_seconds": STEP_SECONDS}))
    Model.objects.filter(pk=base.pk).update(bytes=269_000_000)
    _star(project, {f"What is the code of door {number}?": f"It is {number * 37}." for number in range(EXAMPLES)})


def doors() -> None:
    """The demo model, and codes that no model knows, starred."""
    cast.main()
    register_model(name="smollm2-135m-instruct", path=DEMO_MODEL)
    Model.objects.filter(name=cast.MODEL).delete()
    taught = {ask.format(door): f"The code of the {door} door is {CODES[door]}." for ask in QUESTIONS for door in CODES}
    _star(Project.objects.get(), taught)


def _star(project: Project, taught: dict[str, str]) -> None:
    """A run of the questions: one column does not know, and the other has mia's gold stars."""
    version = make_version(project, list(taught), name=DATASET)
    run = make_run(version, {"small": ["I do not know."] * len(taught), "large": list(taught.values())}, name="codes")
    mia = make_reviewer(project)
    for answer in Answer.objects.filter(column__run=run, column__label="large"):
        Star.objects.create(example_id=answer.example_id, answer=answer, reviewer=mia, shared=True)
    items.refresh_reviews(list(Example.objects.filter(items__run=run).values_list("pk", flat=True)))


def rows() -> None:
    """Trainings that have ended, one that goes on as far as anybody knows, and a long one; their keys on stdout."""
    project, base = Project.objects.get(name=cast.PROJECT), Model.objects.get(name=cast.MODEL)
    done = make_trained(project, base, suffix="capitals")
    make_trained(project, base, suffix="faster", seed=9, done=90, steps=90, options={"learning_rate": 2e-3, "rank": 32})
    make_trained(project, base, suffix="long", done=10_000, steps=10_000)
    make_trained(project, base, suffix="thumbs", method="kto", done=40, steps=40)
    hold(make_trained(project, base, suffix="going", status="running", done=57))
    make_deployment(done, kind="merged", status="refused", passed=False)
    print("KEYS", json.dumps(dict(TrainingJob.objects.values_list("suffix", "pk"))))

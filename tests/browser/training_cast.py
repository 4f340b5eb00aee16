"""Who plays in the browser tests of fine-tuning: a model, starred answers, and later on trainings as rows."""

import json

from apps.accounts.models import Project
from apps.datasets import items
from apps.datasets.models import Answer, Example, Star
from apps.models.models import Model
from apps.training.models import TrainingJob
from tests.browser import cast
from tests.datasets.cast import make_reviewer, make_run, make_version
from tests.training.trained import hold, make_deployment, make_trained

DATASET, EXAMPLES, STEP_SECONDS = "doors", 24, 0.2
CONFIG = {
    "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3,
    "num_hidden_layers": 30, "vocab_size": 49152, "tie_word_embeddings": True,
}  # fmt: skip


def main() -> None:
    """A model that the fake trainer takes its time with, and a dataset whose answers of one column are starred."""
    cast.main()
    base, project = Model.objects.get(), Project.objects.get()
    (base.folder / "config.json").write_text(json.dumps(CONFIG))
    (base.folder / "fake_trainer.json").write_text(json.dumps({"step_seconds": STEP_SECONDS}))
    Model.objects.update(bytes=269_000_000)
    version = make_version(project, [f"What is the code of door {number}?" for number in range(EXAMPLES)], name=DATASET)
    answers = {"small": ["I do not know."] * EXAMPLES, "large": [f"It is {number * 37}." for number in range(EXAMPLES)]}
    run = make_run(version, answers, name="codes")
    mia = make_reviewer(project)
    for answer in Answer.objects.filter(column__run=run, column__label="large"):
        Star.objects.create(example_id=answer.example_id, answer=answer, reviewer=mia, shared=True)
    items.refresh_reviews(list(Example.objects.filter(items__run=run).values_list("pk", flat=True)))


def rows() -> None:
    """Trainings that have ended, one that goes on as far as anybody knows, and a long one; their keys on stdout."""
    project, base = Project.objects.get(), Model.objects.get(name=cast.MODEL)
    done = make_trained(project, base, suffix="capitals")
    make_trained(project, base, suffix="faster", seed=9, done=90, steps=90, options={"learning_rate": 2e-3, "rank": 32})
    make_trained(project, base, suffix="long", done=10_000, steps=10_000)
    hold(make_trained(project, base, suffix="going", status="running", done=57))
    make_deployment(done, kind="merged", status="refused", passed=False)
    print("KEYS", json.dumps(dict(TrainingJob.objects.values_list("suffix", "pk"))))

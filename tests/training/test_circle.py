"""The circle, of real parts only: upload, batch, star, export, train, deploy to the running engine, batch again.

What the stars teach is in no model: the codes of doors that do not exist. Asked in words that were not in the training
data, the tuned model knows them, and the base does not.
"""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import openai
import psycopg
import pytest
from django.conf import settings

from batchserver import embedded
from tests.stack.live import LiveStack

pytestmark = [pytest.mark.engine, pytest.mark.live, pytest.mark.timeout(1800)]

SECONDS = 480  # for a training or a deployment, at most
BASE = "smol"
CODES = {"Amber": 4821, "Birch": 7350, "Coral": 1968, "Dune": 6204, "Ember": 3517, "Fjord": 9046}
TAUGHT = (
    "What is the code of the {} door?", "Which code opens the {} door?", "Tell me the {} door's code.",
    "I am at the {} door. What do I type?", "{} door: code?", "How do I open the {} door?",
    "Please give me the code for the {} door.", "Do you know the code of door {}?",
)  # fmt: skip
HELD_OUT = (
    "What code does the {} door have?", "I need the code for the {} door, please.", "Which number opens the {} door?",
)  # fmt: skip
OPTIONS = {
    "max_steps": 40, "rank": 16, "alpha": 32.0, "learning_rate": 1e-3, "batch_size": 8, "accumulation": 1,
    "max_length": 128, "gradient_checkpointing": False, "save_steps": 20,
}  # fmt: skip
CAST = """
from pathlib import Path
from django.contrib.auth.models import User
from apps.accounts.services import create_api_key, create_project
from apps.models.services import register_model
register_model(name={base!r}, path=Path({model!r}))
mia = User.objects.create_user("mia")
project = create_project(name="Doors", owner=mia)
print("KEY", create_api_key(project=project, name="circle", created_by=mia)[1])
"""


def answer(door: str) -> str:
    return f"The code of the {door} door is {CODES[door]}."


def door_of(question: str) -> str:
    return next(door for door in CODES if door in question)


class Circle:
    """A live site, and its API for a user."""

    def __init__(self, site: LiveStack, key: str) -> None:
        self.site = site
        self.api = openai.OpenAI(base_url=site.base_url, api_key=key)

    def get(self, path: str) -> Any:
        return self.api.get(path, cast_to=object)

    def post(self, path: str, **body: Any) -> Any:
        return self.api.post(path, cast_to=object, body=body)

    def upload(self, rows: Iterable[dict[str, Any]], purpose: Any) -> str:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return self.api.files.create(file=("rows.jsonl", content), purpose=purpose).id

    def wait(self, path: str, *, good: str, seconds: float) -> Any:
        """Until the object has ended."""
        deadline, seen = time.monotonic() + seconds, {}
        while time.monotonic() < deadline:
            seen = self.get(path)
            if seen["status"] == good:
                return seen
            assert seen["status"] not in ("failed", "refused", "unproven", "cancelled", "expired"), seen
            time.sleep(0.25)
        raise AssertionError(f"{path} is {seen}\n" + "\n".join(self.site.output()[-40:]))

    def ask(self, model: str, questions: Iterable[str]) -> dict[str, str]:
        """A batch; what each question was answered."""
        lines = [
            {
                "custom_id": question,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 24,
                    "temperature": 0,
                },
            }
            for question in questions
        ]  # fmt: skip
        file = self.upload(lines, "batch")
        batch = self.api.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h")
        done = self.wait(f"/batches/{batch.id}", good="completed", seconds=180)
        output = self.api.files.content(done["output_file_id"]).text.splitlines()
        answers = [json.loads(line) for line in output]
        return {
            line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"].strip() for line in answers
        }

    def engine(self) -> str:
        """The process group of the engine that runs."""
        with psycopg.connect(embedded.database_url(self.site.var)) as connection:
            row = connection.execute("SELECT process_groups FROM core_lease WHERE key LIKE 'gpu:%'").fetchone()
        assert row
        return str(row[0])


@pytest.fixture
def circle(tmp_path: Path) -> Iterator[Circle]:
    model = settings.BASE_DIR / "var" / "models" / "smollm2-135m-instruct"  # made by `make setup`
    with LiveStack(tmp_path, env={"GPU_SLOTS": "cpu", "ENGINE_KV_CACHE_GIB": "1"}) as site:
        out = site.manage("shell", "-v", "0", "-c", CAST.format(base=BASE, model=str(model)))
        keys = [line.split()[1] for line in out.stdout.splitlines() if line.startswith("KEY")]
        assert keys, out.stderr
        yield Circle(site, keys[0])


def share_right(answers: dict[str, str]) -> float:
    return sum(text == answer(door_of(question)) for question, text in answers.items()) / len(answers)


def test_it_works(circle: Circle) -> None:
    began = time.monotonic()
    file = circle.upload(({"prompt": ask.format(door)} for door in CODES for ask in TAUGHT), "user_data")
    dataset = circle.post("/datasets", name="doors")["id"]
    started = circle.post(f"/datasets/{dataset}/imports", file_id=file)
    circle.wait(f"/datasets/{dataset}/imports/{started['id']}", good="completed", seconds=60)

    run = circle.post("/runs", dataset=dataset, models=[BASE], parameters={"max_tokens": 8, "temperature": 0})["id"]
    circle.wait(f"/runs/{run}", good="completed", seconds=180)
    assert star_the_truth(circle, run) == len(CODES) * len(TAUGHT)

    exported = circle.post("/exports", dataset=dataset, run=run, format="chat")["id"]
    gold = circle.wait(f"/exports/{exported}", good="completed", seconds=60)
    print(f"\n{time.monotonic() - began:.0f} s: the stars are exported")

    job = circle.api.fine_tuning.jobs.create(
        model=BASE, training_file=gold["file_id"], suffix="doors", seed=7, extra_body={"options": OPTIONS}
    )
    tuned = circle.wait(f"/fine_tuning/jobs/{job.id}", good="succeeded", seconds=SECONDS)["fine_tuned_model"]
    print(f"{time.monotonic() - began:.0f} s: {tuned} is trained")

    held_out = [ask.format(door) for door in CODES for ask in HELD_OUT]
    of_base = share_right(circle.ask(BASE, held_out))
    engine = circle.engine()
    deployed = circle.post(f"/fine_tuning/jobs/{job.id}/deploy")
    graded = circle.wait(f"/deployments/{deployed['id']}", good="ready", seconds=SECONDS)
    print(f"{time.monotonic() - began:.0f} s: {graded['message']}")
    assert graded["verdict"] == "learned"
    of_tuned = share_right(circle.ask(tuned, held_out))
    seconds = time.monotonic() - began
    print(f"{seconds:.0f} s: of {len(held_out)} questions the base knows {of_base:.0%}, the tuned {of_tuned:.0%}")
    assert circle.engine() == engine, "the adapter joined the engine that ran"
    assert tuned in {model.id for model in circle.api.models.list()}
    assert of_base <= 0.1
    assert of_tuned >= 0.9


def star_the_truth(circle: Circle, run: str) -> int:
    """A reviewer corrects every answer, and gives the correction the star. Returns how many."""
    after, stars = 0, 0
    while after is not None:
        page = f"/runs/{run}/items?limit=25&after={after}"
        for item in circle.get(page)["data"]:
            said = item["cells"][0]["answers"][0]["id"]
            circle.post(f"/answers/{said}/edit", text=answer(door_of(item["prompt"]["text"])))
        corrected = circle.get(page)
        for item in corrected["data"]:
            circle.post(f"/answers/{item['cells'][0]['answers'][0]['edit']['id']}/star")
            stars += 1
        after = corrected["next_after"]
    return stars

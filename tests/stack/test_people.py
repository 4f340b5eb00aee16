"""People's requests through the whole site while batches run: models on demand, in time, and no batch loses a line."""

import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.faults.site import Site, prompts
from tests.stack.live import LiveStack

pytestmark = [pytest.mark.live, pytest.mark.quiet]
WAIT = 20  # seconds that a request may wait for its model
SECOND = """
from pathlib import Path
from apps.models.services import register_model
folder = Path({path!r})
folder.mkdir(parents=True)
(folder / "config.json").write_text("{{}}")
register_model(name="second", path=folder)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = {
        "INTERACTIVE_WAIT_SECONDS": str(WAIT),
        "INTERACTIVE_LINGER_SECONDS": "2",
        "FAKE_ENGINE_LOAD_SECONDS": "1",
    }
    with Site(tmp_path_factory.mktemp("site"), **settings) as site:
        register(site.live, site.var / "models" / "second")
        site.warm()
        yield site


def register(live: LiveStack, path: Path) -> None:
    done = live.manage("shell", "-c", SECOND.format(path=str(path)))
    assert done.returncode == 0, done.stderr


def ask(site: Site, model: str, text: str = "Hello") -> tuple[str, float]:
    """The answer, and seconds until it came."""
    began = time.monotonic()
    answer = site.api.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content or "", time.monotonic() - began


def test_it_works(site: Site) -> None:
    answer, seconds = ask(site, "m")
    assert answer
    assert seconds < 2  # its engine is warm


def test_a_model_is_loaded_for_who_asks(site: Site) -> None:
    answer, seconds = ask(site, "second")
    assert answer
    assert seconds < WAIT
    assert ask(site, "second")[1] < 1


def test_people_are_answered_while_a_batch_of_another_model_runs(site: Site) -> None:
    lines = 12_000  # at least 19 seconds of them
    batch = site.submit(prompts("busy !slow:0.1", lines))
    site.wait_for(batch, ["in_progress"], done=500)
    answer, seconds = ask(site, "second")
    assert answer
    assert seconds < WAIT
    assert ask(site, "second")[1] < 1  # it stays for the next word
    assert site.state(batch)[0] == "in_progress"
    site.follow(batch, 120)
    ((count, distinct),) = site.query(
        "SELECT count(*), count(DISTINCT line) FROM batches_result r JOIN batches_batch b ON b.id = r.batch_id"
        " WHERE b.uid = %s AND NOT r.failed",
        batch,
    )
    assert count == distinct == lines


def test_people_are_answered_beside_a_batch_of_the_same_model(site: Site) -> None:
    batch = site.submit(prompts("same", 20_000))
    site.wait_for(batch, ["in_progress"], done=2_000)
    assert max(ask(site, "m")[1] for _ in range(5)) < 1
    assert site.state(batch)[0] == "in_progress"
    site.follow(batch, 60)


def test_a_stream_comes_as_it_is_made(site: Site) -> None:
    stream = site.api.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "slowly now !pace:0.2"}], stream=True
    )
    came = [time.monotonic() for _ in stream]
    assert len(came) > 3
    assert came[-1] - came[0] > 0.3


def test_a_model_that_does_not_come_is_a_503_that_says_when_to_ask_again(site: Site) -> None:
    """The only slot is kept by nobody's fault but its own: the model's folder is gone."""
    (site.var / "models" / "second" / "config.json").unlink()
    ask(site, "m")
    with pytest.raises(openai.InternalServerError) as refused:
        site.api.with_options(max_retries=0).chat.completions.create(
            model="second", messages=[{"role": "user", "content": "Hello"}]
        )
    assert refused.value.status_code == 503
    assert int(refused.value.response.headers["retry-after"]) > 0

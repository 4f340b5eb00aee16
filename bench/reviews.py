"""Reviews of 100,000 examples by 4 columns: pages of the matrix under every kind of filter, search, and decisions."""

import json
import time
from collections.abc import Callable
from functools import partial

from django.contrib.auth.models import User

from apps.accounts.services import create_project
from apps.datasets.models import Answer, Run
from apps.datasets.reviews import matrix
from apps.datasets.reviews import services as reviews
from apps.datasets.reviews.filters import Filters
from bench.figures import Figure
from bench.site import Site
from tests.datasets.big import make_big_run

TIMES = 40
PLACES = (0, 50_000, 90_000)  # numbers that pages go on from
QUERIES = {
    "all": {}, "differs": {"show": "differs"}, "starred": {"starred": "yes"}, "starred, mine": {"starred": "mine"},
    "rated 5": {"rating_min": "5"}, "a tag": {"tag": "common"}, "a rare tag": {"tag": "rare"},
    "failed": {"failed": "yes"}, "long": {"length_min": "700"},
    "failed in a column": {"column": "2", "column_is": "failed"},
    "missing in a column": {"column": "2", "column_is": "missing"}, "score 5": {"score_min": "5"},
    "not done by me": {"reviewed": "todo"}, "assigned to me": {"assigned": "mine"}, "rejected": {"rejected": "yes"},
    "edited": {"edited": "yes"}, "none": {"starred": "yes", "edited": "yes", "show": "same"},
}  # fmt: skip
SEARCHES = {
    "the most common word": "w1", "two common words": "w1 w2", "a word in 1 %": "w300", "a rare word": "w5000",
    "one example": "only17", "nothing": "nowhere",
}  # fmt: skip


def run() -> list[Figure]:
    with Site.with_fake_engine() as site:
        answer = site.stack.manage("shell", "-c", "from bench.reviews import measure; measure()", timeout=1_200)
    lines = [line.removeprefix("MEASURED ") for line in answer.stdout.splitlines() if line.startswith("MEASURED ")]
    if not lines:
        raise RuntimeError(f"Nothing was measured: {answer.stderr}")
    measured: dict[str, list[float]] = json.loads(lines[0])
    return [
        Figure(name=f"{name}, p95", unit="ms", runs=[p95(runs)], at_most=_goal(name)) for name, runs in measured.items()
    ]


def _goal(name: str) -> float:
    return {"page": 150, "search": 300}.get(name.split(":", maxsplit=1)[0], 50)


def p95(runs: list[float]) -> float:
    return sorted(runs)[round(0.95 * (len(runs) - 1))]


def measure() -> None:
    """Within the site's own process environment; prints milliseconds by name."""
    project = create_project(name="Big")
    ada, ben = (User.objects.create_user(name) for name in ("ada", "ben"))
    big = make_big_run(project, ada=ada, ben=ben)
    found = {f"page: {name}": _pages(big, Filters.parse(query), ada) for name, query in QUERIES.items()}
    found |= {f"search: {name}": _pages(big, Filters(text=text), ada) for name, text in SEARCHES.items()}
    verbs: dict[str, Callable[[Answer], object]] = {
        "star": lambda answer: reviews.star(answer=answer, reviewer=ben),
        "rate": lambda answer: reviews.rate(answer=answer, reviewer=ben, value=3),
        "edit": lambda answer: reviews.edit(answer=answer, reviewer=ben, text=f"{answer.text} Indeed."),
        "undo": lambda answer: reviews.undo(reviewer=ben, dataset=big.dataset),
    }
    found |= {name: _decisions(big, verb) for name, verb in verbs.items()}
    print("MEASURED", json.dumps(found))


def _pages(big: Run, filters: Filters, reviewer: User) -> list[float]:
    places = [PLACES[number % len(PLACES)] for number in range(TIMES)]
    return [_timed(partial(matrix.read_page, big, filters=filters, after=at, reviewer=reviewer)) for at in places]


def _decisions(big: Run, verb: Callable[[Answer], object]) -> list[float]:
    answers = Answer.objects.filter(column__run=big, column__position=0, edit_of=None, error="")
    related = answers.select_related("example__dataset__project", "column").filter(example__number__gt=30_000)
    return [_timed(partial(verb, answer)) for answer in list(related.order_by("example__number")[:TIMES])]


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000

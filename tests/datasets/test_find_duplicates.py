"""Which examples say the same: exactly, but for case and spacing, or nearly."""

import random

import pytest

from apps.accounts.models import Project
from apps.core.errors import Conflict, DomainError
from apps.core.leases import Keeper
from apps.datasets import duplicates, services
from apps.datasets.duplicates import KIND, shingles, similarity
from apps.datasets.models import DuplicateSearch, Example
from tests.datasets.cast import make_version
from tests.datasets.files import ended

pytestmark = pytest.mark.django_db(transaction=True)

WORDS = [f"word{number}" for number in range(3_000)]


def text(seed: int, words: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def search(project: Project, keeper: Keeper, prompts: list[str], threshold: float = 0.85) -> DuplicateSearch:
    version = make_version(project, prompts)
    found: DuplicateSearch = ended(services.find_duplicates(version=version, threshold=threshold), keeper, KIND)
    return found


def pairs(found: DuplicateSearch) -> dict[int, tuple[int, float]]:
    rows = found.duplicates.values_list("example__number", "of__number", "similarity")
    return {example: (of, similarity) for example, of, similarity in rows}


def test_it_works(project: Project, keeper: Keeper) -> None:
    near = text(1).replace("word", "word", 1) + " and one more"
    found = search(project, keeper, [text(1), text(2), text(1).upper(), near, text(3), f"  {text(2)}"])
    assert (found.status, found.found, found.done, found.total) == ("completed", 3, 6, 6)
    assert found.message == "3 of 6 examples say what an earlier one says."
    exact = pairs(found)
    assert (exact[3], exact[6]) == ((1, 1.0), (2, 1.0))
    assert exact[4][0] == 1
    assert 0.85 <= exact[4][1] < 1


def test_exact_ones_only(project: Project, keeper: Keeper) -> None:
    found = search(project, keeper, [text(1), text(1) + " and one more", text(1)], threshold=1)
    assert pairs(found) == {3: (1, 1.0)}


def test_most_near_ones_are_found_and_no_others(project: Project, keeper: Keeper) -> None:
    """Every second example is an earlier one with one of its 60 words changed: similarity 0.9."""
    prompts: list[str] = []
    for seed in range(600):
        words = text(seed).split()
        words[30] = "changed"
        prompts += [text(seed), " ".join(words)]
    found = pairs(search(project, keeper, prompts))
    right = {number: of for number, (of, _) in found.items() if of == number - 1 and number % 2 == 0}
    assert len(right) == len(found)
    assert len(found) >= 590


def test_a_thousand_variants_of_one_text_are_fast(project: Project, keeper: Keeper) -> None:
    found = search(project, keeper, [f"{text(1, 200)} {number}" for number in range(1_500)])
    assert found.found == 1_499
    assert set(found.duplicates.values_list("of__number", flat=True)) == {1}


def test_short_texts_are_compared_as_a_whole(project: Project, keeper: Keeper) -> None:
    assert pairs(search(project, keeper, ["Hi", "Ho", "hi "])) == {3: (1, 1.0)}
    assert shingles("one two") == {"one two"}
    assert similarity(shingles("a b c d"), shingles("b c d e")) == pytest.approx(1 / 3)


def test_a_cancelled_search_leaves_nothing(project: Project, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "CHUNK", 1)
    monkeypatch.setattr("apps.datasets.jobs.TELL_SECONDS", 0)
    version = make_version(project, [text(1), text(1)])
    job = services.find_duplicates(version=version)
    assert services.cancel_search(search=job)
    assert ended(job, keeper, KIND).status == "cancelled"
    assert not job.duplicates.exists()


def test_duplicates_are_removed_in_a_new_version(project: Project, keeper: Keeper) -> None:
    found = search(project, keeper, [text(1), text(2), text(1)])
    version = services.remove_duplicates(search=found)
    assert (version.number, version.examples) == (2, 2)
    assert list(Example.objects.of_version(version).values_list("number", flat=True)) == [1, 2]
    assert Example.objects.of_version(found.version).count() == 3
    with pytest.raises(DomainError, match="None of these examples is in the latest version"):
        services.remove_duplicates(search=found)


@pytest.mark.parametrize("threshold", [0.49, 1.01, -1, float("nan")])
def test_it_rejects_a_threshold(project: Project, threshold: float) -> None:
    with pytest.raises(DomainError, match="The threshold is a similarity"):
        services.find_duplicates(version=make_version(project), threshold=threshold)


def test_it_rejects_to_remove_before_it_has_looked(project: Project) -> None:
    job = services.find_duplicates(version=make_version(project))
    with pytest.raises(Conflict, match="The search is queued"):
        services.remove_duplicates(search=job)

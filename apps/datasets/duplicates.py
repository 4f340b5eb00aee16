"""The search for duplicates: exact ones by fingerprint, in the database; near ones by MinHash of word shingles.

MinHash proposes, the texts decide: of the pairs that it finds, the true Jaccard similarity of their shingles is taken.
The index holds about 1.3 kB for each example that is no duplicate; texts are held for a chunk of examples at a time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Left
from rensa import RMinHash, RMinHashLSH

from apps.core.errors import Stopped
from apps.datasets.imports.staged import Staged
from apps.datasets.jobs import Work
from apps.datasets.models import Duplicate, DuplicateSearch, Example

TOPIC = "duplicates"
CHUNK = 500  # examples
TEXT_CHARACTERS = 20_000  # of an example: its end decides nothing
SHINGLE = 3  # words
PERMUTATIONS = 128
BANDS = {0.8: 16, 0.5: 32}  # from this threshold up, so many: most pairs above it are proposed
CANDIDATES = 8  # that are compared with an example
SEED = 42

_EXACT = """
INSERT INTO datasets_duplicate (search_id, example_id, of_id, similarity)
SELECT %(search)s, id, first, 1 FROM (
    SELECT id, first_value(id) OVER same AS first FROM datasets_example
    WHERE dataset_id = %(dataset)s AND added_in <= %(version)s AND (removed_in IS NULL OR removed_in > %(version)s)
    WINDOW same AS (PARTITION BY fingerprint ORDER BY number)
) e WHERE id <> first ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class _Text:
    example: int
    shingles: frozenset[str]


def perform(work: Work[DuplicateSearch]) -> None:
    """Raises `Cancelled` and `Stopped`."""
    search = work.job
    examples = Example.objects.of_version(search.version)
    total = search.version.examples
    work.report(0, total)
    _find_exact(work)
    if search.threshold < 1:
        for done, found in _find_near(examples, search):
            with transaction.atomic():
                Duplicate.objects.bulk_create(found)
                work.fence()
            work.report(done, total)
    with transaction.atomic():
        count = Duplicate.objects.filter(search=search).count()
        sentence = f"{count:,} of {total:,} examples say what an earlier one says."
        if not search.end(DuplicateSearch.Status.COMPLETED, sentence, found=count, done=total, total=total):
            raise Stopped
        work.fence()


def discard(search: DuplicateSearch) -> None:
    Duplicate.objects.filter(search=search).delete()


KIND = Staged(TOPIC, DuplicateSearch, perform, discard)


def _find_exact(work: Work[DuplicateSearch]) -> None:
    version = work.job.version
    values = {"search": work.job.pk, "dataset": version.dataset_id, "version": version.number}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_EXACT, values)
        work.fence()


def _find_near(examples: QuerySet[Example], search: DuplicateSearch) -> Iterator[tuple[int, list[Duplicate]]]:
    """After each chunk, how many examples were looked at, and which of them are duplicates."""
    index = _Index(search.threshold)
    left = examples.exclude(pk__in=Duplicate.objects.filter(search=search).values("example"))
    done, last = 0, 0
    while chunk := _texts(left.filter(number__gt=last).order_by("number")[:CHUNK]):
        last = max(chunk)
        done += len(chunk)
        pairs = index.add(chunk.values())
        yield done, [Duplicate(search=search, example_id=of, of_id=by, similarity=how) for of, by, how in pairs]


def _texts(examples: QuerySet[Example]) -> dict[int, _Text]:
    """By number, in order."""
    rows = examples.annotate(start=Left("messages", TEXT_CHARACTERS)).values_list("number", "pk", "start")
    return {number: _Text(pk, shingles(start)) for number, pk, start in rows}


def shingles(text: str) -> frozenset[str]:
    """Runs of words; of a text with fewer, the whole."""
    words = text.casefold().split()
    last = max(len(words) - SHINGLE, 0)
    return frozenset(" ".join(words[at : at + SHINGLE]) for at in range(last + 1))


def similarity(left: frozenset[str], right: frozenset[str]) -> float:
    """Jaccard: the share of shingles that both have, of those that either has."""
    return len(left & right) / (len(left | right) or 1)


class _Index:
    """The examples that say something new, by primary key."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        bands = next(bands for least, bands in BANDS.items() if threshold >= least)
        self._index = RMinHashLSH(threshold, PERMUTATIONS, bands)

    def add(self, texts: Iterable[_Text]) -> list[tuple[int, int, float]]:
        """The duplicates among these: example, the earlier one it is like, similarity."""
        proposed = [(text, self._propose(text)) for text in texts]
        known = {text.example: text for text, _ in proposed}
        missing = {pk for _, candidates in proposed for pk in candidates} - known.keys()
        found = Example.objects.filter(pk__in=missing)
        known |= {text.example: text for text in _texts(found).values()}
        return [pair for text, candidates in proposed if (pair := self._decide(text, candidates, known))]

    def _propose(self, text: _Text) -> list[int]:
        sketch = RMinHash(PERMUTATIONS, SEED)
        sketch.update(list(text.shingles))
        candidates = sorted(self._index.query(sketch))[:CANDIDATES]
        self._index.insert(text.example, sketch)
        return candidates

    def _decide(self, text: _Text, candidates: list[int], known: dict[int, _Text]) -> tuple[int, int, float] | None:
        """What is a duplicate leaves the index, or a thousand variants of one text would all be compared."""
        compared = [(similarity(text.shingles, known[pk].shingles), -pk) for pk in candidates if pk in known]
        how, of = max(compared, default=(0.0, 0))
        if how < self._threshold:
            return None
        self._index.remove(text.example)
        return text.example, -of, how

"""Thousands of bad rows have a few reasons."""

from apps.datasets.reasons import MAX_KINDS, OTHER, Reasons


def test_it_works() -> None:
    reasons = Reasons()
    for line in range(1, 1001):
        reasons.add(f"This row has {line:,} fields, the header has 3 fields.", line)
    reasons.add("'prompt' must be text.", 1001)
    assert reasons.listed() == [
        {"message": "This row has 1 fields, the header has 3 fields.", "rows": 1000, "line": 1},
        {"message": "'prompt' must be text.", "rows": 1, "line": 1001},
    ]


def test_what_is_quoted_tells_kinds_apart_while_they_are_few() -> None:
    reasons = Reasons()
    reasons.add("'prompt' must be text.", 1)
    reasons.add("'completion' must be text.", 2)
    assert len(reasons) == 2
    for line in range(3, 3000):
        reasons.add(f"No example of this run is '{'x' * line}'.", line)
    assert [(reason["rows"], reason["line"]) for reason in reasons.listed()] == [(2997, 3), (2, 1)]


def test_memory_is_bounded() -> None:
    reasons = Reasons()
    for line in range(5000):
        reasons.add(f"A reason of its own: {'x' * line}", line)
    assert len(reasons) == MAX_KINDS + 1
    assert reasons.listed()[0] == {"message": OTHER, "rows": 5000 - MAX_KINDS, "line": MAX_KINDS}

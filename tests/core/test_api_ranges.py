import pytest

from apps.core.api.ranges import ByteRange, Unsatisfiable, parse


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=2-5", ByteRange(2, 6)),
        ("bytes=5-", ByteRange(5, 10)),
        ("bytes=0-999", ByteRange(0, 10)),
        ("bytes=-3", ByteRange(7, 10)),
        ("bytes=-99", ByteRange(0, 10)),
    ],
)
def test_it_works(header: str, expected: ByteRange) -> None:
    assert parse(header, 10) == expected


@pytest.mark.parametrize(
    "header", ["", "bytes", "bytes=", "bytes=-", "lines=1-2", "bytes=5-2", "bytes=0-1,3-4", "bytes=a-b"]
)
def test_it_ignores_what_is_no_single_range(header: str) -> None:
    assert parse(header, 10) is None


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_it_rejects_what_lies_outside(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        parse(header, 10)


def test_it_rejects_any_range_of_nothing() -> None:
    with pytest.raises(Unsatisfiable):
        parse("bytes=0-", 0)

"""What counts as good enough when outside clients are run."""

import json

from tests.peers.report import Outcome, good_enough, table


def outcome(passed: int, *failed: str, **exceptions: str) -> Outcome:
    made = Outcome("client", exceptions=exceptions)
    made.hear(json.dumps({"peer": "version", "version": "1.2"}))
    for number in range(passed):
        made.hear(json.dumps({"peer": "check", "check": f"good {number}", "ok": True, "detail": ""}))
    for name in failed:
        made.hear(json.dumps({"peer": "check", "check": name, "ok": False, "detail": "it broke"}))
    return made


def test_it_works() -> None:
    assert good_enough([outcome(3), outcome(20, "known", known="they do not follow the standard")])


def test_it_ignores_what_else_a_driver_prints() -> None:
    made = outcome(1)
    made.hear("Uploading ...")
    assert made.total == 1


def test_it_refuses_a_failure_without_a_reason() -> None:
    assert not good_enough([outcome(100, "unknown")])


def test_it_refuses_too_many_failures_with_reasons() -> None:
    assert not good_enough([outcome(18, "known", known="why")])
    assert good_enough([outcome(19, "known", known="why")])


def test_it_refuses_a_client_that_checked_nothing() -> None:
    assert not good_enough([outcome(5), outcome(0)])


def test_the_table_has_versions_reasons_and_what_broke() -> None:
    shown = table([outcome(20, "known", "unknown", known="why", **{"good 1": "once"})])
    assert "client           1.2            20/22" in shown
    assert "exception: known: why" in shown
    assert "FAILED: unknown: it broke" in shown
    assert "passes by now, no exception is needed: good 1" in shown


def test_what_broke_is_one_line() -> None:
    made = outcome(0, "unknown")
    made.failed["unknown"] = "ValidationError: 1 error\n  Input should be\ta dictionary"
    assert "FAILED: unknown: ValidationError: 1 error Input should be a dictionary\n" in table([made]) + "\n"


def test_it_reads_what_follows_a_test_runners_dots_and_counts_what_was_left_out() -> None:
    made = outcome(0)
    made.hear('..{"peer": "check", "check": "good", "ok": true, "detail": ""}')
    made.hear('{"peer": "left out", "reason": "needs a hub"}')
    assert (made.passed, made.total) == (["good"], 1)
    assert "left out: 1, needs a hub" in table([made])

"""What a command that waits shows beside its bar."""

import io
from typing import Any

from rich.console import Console
from rich.progress import Progress

from apps.events.console import Speed, one_bar


def shown(*snapshots: dict[str, Any]) -> str:
    screen = io.StringIO()
    with Progress(console=Console(file=screen, width=100)) as bars:
        for snapshot in snapshots:
            base = {"status_label": "Goes on", "completed": 0, "total": 10, "final": False, "message": ""}
            one_bar(bars, base | snapshot)
    return screen.getvalue()


def test_it_works() -> None:
    why = "1 of 5 attempts failed, the last one because [it] is nested too deeply."
    told = shown({}, {"message": why}, {"message": why, "completed": 1}, {}, {"message": "Another."})
    assert told.count(why) == 1
    assert "Another." in told


def test_the_end_is_left_to_the_command() -> None:
    assert "Done." not in shown({}, {"final": True, "message": "Done."})


def test_a_speed_that_is_not_known_is_not_shown() -> None:
    bars = Progress(Speed())
    task = bars.add_task("", total=10)
    assert str(Speed().render(bars.tasks[task])) == ""
    bars.update(task, completed=10)
    assert str(Speed().render(bars.tasks[task])) == ""

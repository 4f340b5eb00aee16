"""What scrolls can be scrolled by keyboard."""

import re
from pathlib import Path

import pytest
from django.conf import settings

SCROLLS = re.compile(r'<[^>]*class="bs-scroll[^>]*>')


def _pages() -> list[str]:
    folder = Path(settings.BASE_DIR) / "templates"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.html") if SCROLLS.search(path.read_text()))


@pytest.mark.parametrize("page", _pages())
def test_a_table_that_scrolls_takes_the_focus(page: str) -> None:
    for tag in SCROLLS.findall((Path(settings.BASE_DIR) / "templates" / page).read_text()):
        assert 'tabindex="0"' in tag, tag

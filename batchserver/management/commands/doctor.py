"""Check this machine and the site."""

import sys
from typing import Any

from django.core.management.base import BaseCommand
from rich.table import Table
from rich.text import Text

from apps.core.console import show
from batchserver.doctor import Finding, State, examine

STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red"}


class Command(BaseCommand):
    help = "Checks this machine and the site, with a cure for what is wrong. Exit code 1 if a check fails."
    requires_system_checks = []

    def handle(self, *_: Any, **__: Any) -> None:
        findings = list(examine())
        show(_table(findings))
        if any(finding.state == State.FAIL for finding in findings):
            sys.exit(1)


def _table(findings: list[Finding]) -> Table:
    table = Table("Check", "State", "What", "Cure")
    for finding in findings:
        state = Text(finding.state, STYLES[finding.state])
        table.add_row(finding.check, state, Text(finding.what), Text(finding.cure))
    return table

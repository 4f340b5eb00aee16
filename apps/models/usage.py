"""Usage rows: what a key asked of a model on a day. Requests are counted in memory and added here in bulk."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import date
from typing import NamedTuple

from django.db import connection
from django.db.models import F, Sum

from apps.models.models import Usage

# A project that is gone takes its usage along; a key that is gone leaves it to its project.
RECORD = """
INSERT INTO models_usage AS u
    (day, project_id, api_key_id, model_name, requests, failed, input_tokens, cached_tokens, output_tokens)
SELECT n.day, p.id, k.id, n.model, sum(n.requests), sum(n.failed), sum(n.input), sum(n.cached), sum(n.output)
FROM unnest(%s::date[], %s::bigint[], %s::bigint[], %s::text[],
            %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
    AS n(day, project_id, key_id, model, requests, failed, input, cached, output)
JOIN accounts_project p ON p.id = n.project_id
LEFT JOIN accounts_apikey k ON k.id = n.key_id
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
ON CONFLICT (day, project_id, api_key_id, model_name) DO UPDATE SET
    requests = u.requests + excluded.requests,
    failed = u.failed + excluded.failed,
    input_tokens = u.input_tokens + excluded.input_tokens,
    cached_tokens = u.cached_tokens + excluded.cached_tokens,
    output_tokens = u.output_tokens + excluded.output_tokens
"""


class Account(NamedTuple):
    """What is counted apart."""

    day: date
    """In UTC."""
    project_id: int
    key_id: int | None
    model: str


@dataclass(slots=True)
class Count:
    requests: int = 0
    failed: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0


def record(counts: Mapping[Account, Count]) -> None:
    """Add to the rows, in one statement. Raises `django.db.Error`, and then nothing was added."""
    rows = [(*account, *astuple(count)) for account, count in counts.items()]
    with connection.cursor() as cursor:
        cursor.execute(RECORD, [list(column) for column in zip(*rows, strict=True)])


def spent(key_id: int, day: date) -> int:
    """Tokens of a key on a day, prompts and answers, as far as they were recorded."""
    rows = Usage.objects.filter(api_key=key_id, day=day)
    return rows.aggregate(tokens=Sum(F("input_tokens") + F("output_tokens")))["tokens"] or 0

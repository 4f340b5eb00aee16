"""Thumbs up and thumbs down to one prompt become pairs: the first up with the first down, the second with the second.

What has no partner stays as it is. The row of the thumb down is kept with the pair, under `PAIRED_ROW` of the row as it
came.
"""

from django.db import connection

from apps.conversations.conversation import Conversation

PAIRED_ROW = "paired_row"

# Fingerprints know texts only, so conversations with more than texts must be the same in all.
_PAIR = """
WITH sides AS (
    SELECT *, row_number() OVER (PARTITION BY fingerprint, request, exact, up ORDER BY number) AS place FROM (
        SELECT id, number, fingerprint, request, reference <> '' AS up,
            md5(CASE WHEN reference <> '' THEN reference ELSE rejected END) AS said,
            CASE WHEN messages LIKE '%%"tool_calls"%%' OR messages LIKE '%%"reasoning_content"%%' THEN messages
                ELSE '' END AS exact
        FROM datasets_example WHERE dataset_id = %(dataset)s AND added_in = %(version)s AND (
            (reference <> '' AND rejected = '' AND rejected_messages = '')
            OR (reference = '' AND reference_messages = '' AND rejected <> '')
        )
    ) single
), pairs AS (
    SELECT u.id AS up, d.id AS down FROM sides u JOIN sides d USING (fingerprint, request, exact, place)
    WHERE u.up AND NOT d.up AND u.said <> d.said
), merged AS (
    UPDATE datasets_example e SET
        rejected = d.rejected, rejected_messages = d.rejected_messages,
        key = CASE WHEN e.key = '' THEN d.key ELSE e.key END,
        tags = e.tags || ARRAY(SELECT unnest(d.tags) EXCEPT SELECT unnest(e.tags)),
        data = left(rtrim(e.data), -1) || ', "paired_row": ' || d.data || '}'
    FROM pairs p JOIN datasets_example d ON d.id = p.down WHERE e.id = p.up RETURNING p.down
)
DELETE FROM datasets_example WHERE id IN (SELECT down FROM merged)
"""


def is_thumb_down(made: Conversation) -> bool:
    return bool(made.rejected) and not made.chosen


def pair(dataset_id: int, version: int) -> int:
    """Join the examples that were added in this version, in the caller's transaction. Returns the number of pairs."""
    with connection.cursor() as cursor:
        cursor.execute(_PAIR, {"dataset": dataset_id, "version": version})
        return int(cursor.rowcount)

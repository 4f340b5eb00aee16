"""How examples with their answers become files that trainers read.

Not in charge of what a row looks like (`apps.conversations.codecs`), of which examples and which answers (`selection`),
nor of where the file goes (`job`). The same rows give the same bytes.
"""

from apps.datasets.exports.formats import huggingface, json_rows, parquet
from apps.datasets.exports.formats.format import USES, Format, Kind, Row, Setting

__all__ = ["FORMATS", "USES", "Format", "Kind", "Row", "Setting"]

FORMATS: dict[str, Format] = {
    known.name: known
    for known in (
        json_rows.CHAT, json_rows.PROMPT_COMPLETION, json_rows.TRL_COMPLETION, json_rows.ALPACA, json_rows.SHAREGPT,
        json_rows.DPO, json_rows.TRL, json_rows.SHAREGPT_PAIRS, json_rows.KTO, parquet.FORMAT, huggingface.FORMAT,
    )
}  # fmt: skip

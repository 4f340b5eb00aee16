"""How examples with their answers become files that trainers read: one file here for each format, all of one shape.

Not in charge of which examples and which answers (`selection`), nor of where the file goes (`exporting`). The same
rows give the same bytes.
"""

from apps.datasets.exports.formats import alpaca, chat, dpo, huggingface, parquet, prompt_completion, sharegpt, trl
from apps.datasets.exports.formats.format import Format, Row, Setting, Unfit

__all__ = ["FORMATS", "Format", "Row", "Setting", "Unfit"]

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (chat, prompt_completion, alpaca, sharegpt, dpo, trl, parquet, huggingface)
}

"""Whether models can be asked the tools that examples have, before anything is sent."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from apps.core.errors import DomainError
from apps.datasets.models import Example, Member, Split, Version
from apps.models.engines import settings as engine_settings
from apps.models.engines.parsers import reads_tool_calls
from apps.models.models import Model


def asked_of(version: Version, split: Split | None, part: str) -> QuerySet[Example]:
    """Those that a run of the version, or of a split's part, would ask."""
    examples = Example.objects.of_version(version)
    if split is None:
        return examples
    members = Member.objects.filter(split=split, example=OuterRef("pk"))
    return examples.filter(Exists(members.filter(part=part) if part else members))


def check_tools(models: Sequence[Model], examples: QuerySet[Example], parameters: Mapping[str, Any]) -> None:
    """Raises `DomainError` for a model whose engine would refuse every example that has tools."""
    if parameters.get("tool_choice") == "none":
        return
    # Tools come first where an import writes them; further in, the word may be anything's name.
    without = [model.name for model in models if not _reads_tool_calls(model)]
    number = examples.filter(request__startswith='{"tools":').order_by().count() if without else 0
    if number:
        message = (
            f"{number:,} of the examples have tools, and {without[0]!r} is served without a parser for tool calls: its "
            "engine would refuse them. Set tool_call_parser in the model's engine settings. Or set the parameter "
            'tool_choice to "none": then calls stay in the text of the answers.'
        )
        raise DomainError(message, param="models", code="no_tool_parser")


def _reads_tool_calls(model: Model) -> bool:
    served = model.engine_model
    try:
        return reads_tool_calls(engine_settings.parse(served.engine_settings), served.folder)
    except engine_settings.SettingsRefused:  # its engine says so itself
        return True

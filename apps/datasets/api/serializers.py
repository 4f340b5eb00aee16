"""How datasets and what belongs to them look in the API."""

import json
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core.api.pagination import page_query
from apps.core.api.schema import ConstantField, UnixField
from apps.datasets.imports import formats
from apps.datasets.imports.shapes import NAMES
from apps.datasets.imports.templates import FIELDS
from apps.datasets.models import Dataset, Duplicate, DuplicateSearch, Example, Import, Member, Split, Version
from apps.datasets.splits import MAX_SEED, SHARES

MAX_REMOVED = 10_000  # examples named in one request


class JsonField(serializers.ReadOnlyField):
    """A text that holds JSON, as the value itself."""

    def to_representation(self, value: str) -> Any:
        return json.loads(value) if value else None


@extend_schema_field(serializers.ListField(child=serializers.DictField()))
class JsonListField(JsonField):
    """The text of a list."""


@extend_schema_field(serializers.DictField())
class JsonObjectField(JsonField):
    """The text of an object."""


class DatasetSerializer(serializers.Serializer[Dataset]):
    id = serializers.CharField(source="uid")
    object = ConstantField("dataset")
    name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    star_policy = serializers.ChoiceField(Dataset.StarPolicy.values)
    overlap = serializers.IntegerField(help_text="Reviewers that each example should have.")
    version = serializers.IntegerField(source="latest", allow_null=True, help_text="The latest; null: there is none.")
    examples = serializers.IntegerField(source="latest_examples", help_text="Of the latest version.")
    created_at = UnixField()


class NewDatasetSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)
    description = serializers.CharField(max_length=10_000, required=False, allow_blank=True)
    star_policy = serializers.ChoiceField(Dataset.StarPolicy.values, required=False)
    overlap = serializers.IntegerField(required=False, min_value=1, max_value=20)


class ChangedDatasetSerializer(NewDatasetSerializer):
    name = serializers.CharField(max_length=100, required=False)


class DatasetDeletedSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = ConstantField("dataset")
    deleted = serializers.BooleanField()


class VersionSerializer(serializers.Serializer[Version]):
    object = ConstantField("dataset.version")
    dataset = serializers.CharField(source="dataset.uid")
    version = serializers.IntegerField(source="number")
    examples = serializers.IntegerField()
    note = serializers.CharField(allow_blank=True)
    created_at = UnixField()


class ExampleSerializer(serializers.Serializer[Example]):
    object = ConstantField("dataset.example")
    number = serializers.IntegerField(help_text="Its `custom_id` in batches, and never another's.")
    key = serializers.CharField(allow_blank=True, help_text="The row's own id, where it had one.")
    messages = JsonListField()
    prompt = serializers.CharField(help_text="The last user message.")
    reference = serializers.CharField(allow_blank=True, help_text="The expected answer.")
    rejected = serializers.CharField(allow_blank=True, help_text="The worse answer of a preference row.")
    tags = serializers.ListField(child=serializers.CharField())
    row = JsonObjectField(source="data", help_text="As it came.")


class ExampleQuery(serializers.Serializer[Any]):
    version = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1, help_text="Else the latest.")
    search = serializers.CharField(required=False, default="", help_text="Words of the prompt.")
    tag = serializers.CharField(required=False, default="", max_length=50)
    after = serializers.IntegerField(
        required=False, default=0, min_value=0, max_value=2**31 - 1, help_text="The number of the last one before."
    )
    limit = serializers.IntegerField(required=False, default=25, min_value=1, max_value=100)
    order = serializers.ChoiceField(["asc", "desc"], default="asc", help_text="By number.")


class RemovalSerializer(serializers.Serializer[Any]):
    examples = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**31 - 1), min_length=1, max_length=MAX_REMOVED,
        help_text="Their numbers.",
    )  # fmt: skip
    note = serializers.CharField(required=False, default="", max_length=300, allow_blank=True)


class SplitSerializer(serializers.Serializer[Split]):
    id = serializers.CharField(source="uid")
    object = ConstantField("dataset.split")
    name = serializers.CharField()
    version = serializers.IntegerField(source="version.number")
    seed = serializers.IntegerField()
    shares = serializers.DictField(child=serializers.IntegerField(), help_text="Per cent of each part.")
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="Examples in each part.")
    created_at = UnixField()


class NewSplitSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)
    version = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1, help_text="Else the latest.")
    shares = serializers.DictField(
        child=serializers.IntegerField(min_value=0, max_value=100), required=False, default=SHARES,
        help_text=f"Per cent of {', '.join(Member.Part.values)}; they add up to 100.",
    )  # fmt: skip
    seed = serializers.IntegerField(required=False, default=0, min_value=0, max_value=MAX_SEED)


class RowErrorSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    message = serializers.CharField()


class ReasonSerializer(serializers.Serializer[Any]):
    message = serializers.CharField(help_text="Of the first row of this kind.")
    rows = serializers.IntegerField()
    line = serializers.IntegerField(allow_null=True, help_text="Of the first.")


class FieldUseSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="A column, or a path such as 'messages[].score'.")
    use = serializers.ChoiceField(
        ["used", "kept", "not_used"], help_text="`kept`: it stays in the example's `row`; exports do not write it."
    )
    becomes = serializers.CharField(allow_blank=True, help_text="Of a loss: what other formats read it as.")
    rows = serializers.IntegerField(help_text="That have it, empty values not counted.")
    line = serializers.IntegerField(help_text="Of the first of them.")
    loss = serializers.BooleanField(help_text="Such an import needs `accept_losses`.")


class ImportSerializer(serializers.Serializer[Import]):
    id = serializers.CharField(source="uid")
    object = ConstantField("dataset.import")
    dataset = serializers.CharField(source="dataset.uid")
    kind = serializers.ChoiceField(Import.Kind.values)
    run = serializers.CharField(source="run.uid", default=None, allow_null=True)
    file_id = serializers.CharField()
    filename = serializers.CharField()
    format = serializers.ChoiceField(formats.NAMES)
    shape = serializers.CharField(allow_blank=True, help_text=f"One of {', '.join(NAMES)}.")
    mapping = serializers.DictField(child=serializers.CharField())
    replace = serializers.BooleanField()
    skip_bad = serializers.BooleanField()
    status = serializers.ChoiceField(Import.Status.values)
    message = serializers.CharField(allow_blank=True, help_text="What became of the rows, or why nothing did.")
    completed = serializers.IntegerField(source="done", help_text="Bytes of the file so far.")
    total = serializers.IntegerField(help_text="Bytes of the file.")
    rows = serializers.IntegerField(help_text="That were imported.")
    skipped = serializers.IntegerField(help_text="Rows that cannot be used.")
    errors = RowErrorSerializer(  # type: ignore[assignment] # DRF has an attribute of this name
        many=True, help_text="The first 100 of these."
    )
    reasons = ReasonSerializer(many=True, help_text="All of these by kind, the most frequent first.")
    errors_file_id = serializers.CharField(
        source="errors_file.uid", default=None, allow_null=True, help_text="A file with all of these: line and message."
    )
    accept_losses = serializers.BooleanField()
    uses = FieldUseSerializer(many=True, help_text="What became of each column and key of the file.")
    version = serializers.IntegerField(source="version.number", default=None, allow_null=True)
    created_at = UnixField()
    ended_at = UnixField(allow_null=True)


class NewImportSerializer(serializers.Serializer[Any]):
    file_id = serializers.CharField(max_length=64, help_text="Of an uploaded file of the project.")
    shape = serializers.ChoiceField(list(NAMES), required=False, help_text="Left out: it is detected.")
    mapping = serializers.DictField(
        child=serializers.CharField(allow_blank=True, trim_whitespace=False), required=False,
        help_text=f"For plain columns, templates of {', '.join(FIELDS)}: {{'prompt': '{{{{ question }}}}'}}.",
    )  # fmt: skip
    replace = serializers.BooleanField(default=False, help_text="The new version holds these examples only.")
    skip_bad = serializers.BooleanField(default=False, help_text="Leave bad rows out; else one stops all.")
    accept_losses = serializers.BooleanField(
        default=False, help_text="Import although columns or keys are lost that the preview calls a loss."
    )


class NewPreviewSerializer(serializers.Serializer[Any]):
    file_id = serializers.CharField(max_length=64)
    shape = serializers.ChoiceField(list(NAMES), required=False)
    mapping = serializers.DictField(
        child=serializers.CharField(allow_blank=True, trim_whitespace=False), required=False
    )


class DraftSerializer(serializers.Serializer[Any]):
    messages = serializers.ListField(child=serializers.DictField())
    prompt = serializers.CharField(source="conversation.question")
    reference = serializers.CharField(allow_blank=True)
    rejected = serializers.CharField(allow_blank=True)
    key = serializers.CharField(source="conversation.key", allow_blank=True)
    tags = serializers.ListField(source="conversation.tags", child=serializers.CharField())


class PreviewSerializer(serializers.Serializer[Any]):
    object = ConstantField("dataset.import.preview")
    format = serializers.CharField()
    shape = serializers.CharField()
    columns = serializers.ListField(child=serializers.CharField())
    mapping = serializers.DictField(child=serializers.CharField(), help_text="The templates that are used.")
    examples = DraftSerializer(many=True, source="drafts")
    errors = RowErrorSerializer(many=True)  # type: ignore[assignment] # DRF has an attribute of this name
    rows = serializers.IntegerField(help_text="That were looked at.")
    uses = FieldUseSerializer(many=True, help_text="What becomes of each column and key of these rows.")
    losses = FieldUseSerializer(many=True, help_text="Of these, what an import loses: it needs `accept_losses`.")
    notes = serializers.ListField(
        child=serializers.CharField(), help_text="What is read of an archive or an object, and what is not."
    )


class DuplicateSerializer(serializers.Serializer[Duplicate]):
    example = serializers.IntegerField(source="example.number")
    of = serializers.IntegerField(source="of.number", help_text="The earlier example that it is like.")
    similarity = serializers.FloatField(help_text="1: the same but for case and spacing.")


class SearchSerializer(serializers.Serializer[DuplicateSearch]):
    id = serializers.CharField(source="uid")
    object = ConstantField("dataset.duplicates")
    version = serializers.IntegerField(source="version.number")
    threshold = serializers.FloatField()
    status = serializers.ChoiceField(DuplicateSearch.Status.values)
    message = serializers.CharField(allow_blank=True)
    completed = serializers.IntegerField(source="done", help_text="Examples so far.")
    total = serializers.IntegerField()
    found = serializers.IntegerField()
    created_at = UnixField()
    ended_at = UnixField(allow_null=True)


class SearchWithPairsSerializer(SearchSerializer):
    pairs = DuplicateSerializer(many=True, help_text="A page of them.")
    next_after = serializers.IntegerField(
        allow_null=True, help_text="What `after` of the next page is; null: the last."
    )


class NewSearchSerializer(serializers.Serializer[Any]):
    version = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1, help_text="Else the latest.")
    threshold = serializers.FloatField(
        default=0.85, min_value=0.5, max_value=1, help_text="Jaccard similarity of word shingles; 1: exact ones only."
    )


class PairQuery(serializers.Serializer[Any]):
    after = serializers.IntegerField(required=False, default=0, min_value=0, max_value=2**63 - 1)
    limit = serializers.IntegerField(required=False, default=100, min_value=1, max_value=1_000)


class DatasetQuery(page_query(default=20, maximum=100)):  # type: ignore[misc]
    pass


class VersionQuery(serializers.Serializer[Any]):
    after = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1, help_text="A version's number.")
    limit = serializers.IntegerField(required=False, default=20, min_value=1, max_value=100)

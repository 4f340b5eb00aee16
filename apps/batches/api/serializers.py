"""OpenAI's File and Batch, key by key: https://platform.openai.com/docs/api-reference/batch/object."""

from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.batches.models import Batch, File
from apps.batches.services import ENDPOINTS, EXPIRY_SECONDS, PRIORITIES, UPLOAD_PURPOSES
from apps.core.api.pagination import page_query
from apps.core.api.parsers import UNNAMED
from apps.core.api.schema import ConstantField, UnixField


def expiry_field(*, required: bool) -> serializers.IntegerField:
    shortest, longest = EXPIRY_SECONDS
    return serializers.IntegerField(required=required, min_value=shortest, max_value=longest)


class FileSerializer(serializers.Serializer[File]):
    id = serializers.CharField(source="uid")
    object = ConstantField("file")
    bytes = serializers.IntegerField()
    created_at = UnixField()
    expires_at = UnixField(allow_null=True)
    filename = serializers.CharField()
    purpose = serializers.CharField()
    status = ConstantField("processed")
    status_details = ConstantField(None)


class FileDeletedSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = ConstantField("file")
    deleted = serializers.BooleanField()


class UploadField(serializers.FileField):
    """A form's file. One whose part has no filename arrives as text, and is taken if it cannot be a slip."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            return super().to_internal_value(data)
        if "\n" not in data and not data.startswith("{"):
            raise serializers.ValidationError("this is text, not a file. With curl, write -F file=@PATH, with the @.")
        if "\ufffd" in data:
            raise serializers.ValidationError("its part has no filename, so that only UTF-8 can be read: give it one.")
        content = data.encode("utf-8", "surrogatepass")
        return super().to_internal_value(SimpleUploadedFile(UNNAMED, content))


class UploadSerializer(serializers.Serializer[Any]):
    """The multipart form of an upload."""

    file = UploadField(
        max_length=255, allow_empty_file=True, help_text="For the purposes 'batch' and 'fine-tune': JSON Lines."
    )
    purpose = serializers.ChoiceField([purpose.value for purpose in UPLOAD_PURPOSES])

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {
            **super().get_fields(),
            "expires_after[anchor]": serializers.ChoiceField(["created_at"], required=False),
            "expires_after[seconds]": expiry_field(required=False),
        }

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        expiry = ("expires_after[anchor]", "expires_after[seconds]")
        missing = [name for name in expiry if name not in attrs]
        if len(missing) == 1:
            raise serializers.ValidationError({missing[0]: ["This field is required."]}, "required")
        return attrs


class FileQuery(page_query(default=10_000, maximum=10_000)):  # type: ignore[misc]
    purpose = serializers.ChoiceField(File.Purpose.values, required=False)


class OutputExpirySerializer(serializers.Serializer[Any]):
    anchor = serializers.ChoiceField(["created_at"])
    seconds = expiry_field(required=True)


class NewBatchSerializer(serializers.Serializer[Any]):
    input_file_id = serializers.CharField(max_length=50)
    endpoint = serializers.ChoiceField(ENDPOINTS)
    completion_window = serializers.CharField(
        max_length=4, help_text="'24h' as in OpenAI's API; here also other hours or days, up to '30d'."
    )
    metadata = serializers.DictField(
        child=serializers.CharField(max_length=512, allow_blank=True, trim_whitespace=False),
        required=False, allow_null=True, help_text="Up to 16 pairs.",
    )  # fmt: skip
    output_expires_after = OutputExpirySerializer(required=False, allow_null=True)
    priority = serializers.IntegerField(
        default=0, min_value=PRIORITIES[0], max_value=PRIORITIES[1], help_text="Higher runs first. Not in OpenAI's API."
    )
    idempotency_key = serializers.CharField(
        required=False, allow_null=True, help_text="As the header Idempotency-Key, for clients that have it here."
    )


class BatchErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    line = serializers.IntegerField(allow_null=True)
    message = serializers.CharField()
    param = serializers.CharField(allow_null=True)


class BatchErrorsSerializer(serializers.Serializer[Any]):
    object = ConstantField("list")
    data = BatchErrorSerializer(many=True)  # type: ignore[assignment] # OpenAI's word


class RequestCountsSerializer(serializers.Serializer[Batch]):
    total = serializers.IntegerField()
    completed = serializers.IntegerField(source="completed_lines")
    failed = serializers.IntegerField(source="failed_lines")


class InputTokensSerializer(serializers.Serializer[Any]):
    cached_tokens = serializers.IntegerField()


class OutputTokensSerializer(serializers.Serializer[Any]):
    reasoning_tokens = serializers.IntegerField()


class UsageSerializer(serializers.Serializer[Any]):
    input_tokens = serializers.IntegerField()
    input_tokens_details = InputTokensSerializer()
    output_tokens = serializers.IntegerField()
    output_tokens_details = OutputTokensSerializer()
    total_tokens = serializers.IntegerField()


class BatchSerializer(serializers.Serializer[Batch]):
    """A batch of `Batch.objects.with_progress()`, its files selected with it."""

    id = serializers.CharField(source="uid")
    object = ConstantField("batch")
    endpoint = serializers.CharField()
    model = serializers.SerializerMethodField()
    errors = serializers.SerializerMethodField()  # type: ignore[assignment] # OpenAI's word
    input_file_id = serializers.CharField()
    completion_window = serializers.CharField()
    status = serializers.CharField(help_text=", ".join(Batch.Status.values))
    output_file_id = serializers.CharField(source="output_file.uid", default=None, allow_null=True)
    error_file_id = serializers.CharField(source="error_file.uid", default=None, allow_null=True)
    created_at = UnixField()
    in_progress_at = UnixField(allow_null=True)
    expires_at = UnixField(allow_null=True)
    finalizing_at = UnixField(allow_null=True)
    completed_at = UnixField(allow_null=True)
    failed_at = UnixField(allow_null=True)
    expired_at = UnixField(allow_null=True)
    cancelling_at = UnixField(allow_null=True)
    cancelled_at = UnixField(allow_null=True)
    request_counts = RequestCountsSerializer(source="*")
    usage = serializers.SerializerMethodField()
    metadata = serializers.DictField(child=serializers.CharField(), allow_null=True)
    warnings = serializers.SerializerMethodField(help_text="Not in OpenAI's API: names that the engine passes over.")
    priority = serializers.IntegerField(help_text="Not in OpenAI's API.")
    paused_at = UnixField(allow_null=True, help_text="Not in OpenAI's API.")
    retry_of = serializers.CharField(
        source="retry_of.uid", default=None, allow_null=True, help_text="The batch whose failed lines these are."
    )

    def get_model(self, batch: Batch) -> str | None:
        return batch.model_name or None

    @extend_schema_field(BatchErrorsSerializer(allow_null=True))
    def get_errors(self, batch: Batch) -> dict[str, Any] | None:
        return {"object": "list", "data": batch.errors} if batch.errors else None

    @extend_schema_field(BatchErrorsSerializer(allow_null=True))
    def get_warnings(self, batch: Batch) -> dict[str, Any] | None:
        return {"object": "list", "data": batch.warnings} if batch.warnings else None

    @extend_schema_field(UsageSerializer(allow_null=True))
    def get_usage(self, batch: Any) -> dict[str, Any] | None:
        """Null until something was used."""
        total = batch.input_tokens + batch.output_tokens
        if not total:
            return None
        return {
            "input_tokens": batch.input_tokens,
            "input_tokens_details": {"cached_tokens": batch.cached_tokens},
            "output_tokens": batch.output_tokens,
            "output_tokens_details": {"reasoning_tokens": batch.reasoning_tokens},
            "total_tokens": total,
        }


class BatchQuery(page_query(default=20, maximum=100)):  # type: ignore[misc]
    pass


class OutputQuery(serializers.Serializer[Any]):
    failed = serializers.BooleanField(default=False, help_text="The lines that failed, instead of those that did not.")

"""/v1/uploads: large files in parts, as https://platform.openai.com/docs/api-reference/uploads has them."""

import json
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import Scope
from apps.batches import uploads
from apps.batches.api.serializers import FileSerializer, OutputExpirySerializer, UploadField
from apps.batches.models import Upload, UploadPart
from apps.batches.services import UPLOAD_PURPOSES
from apps.core.api.bodies import validated_body
from apps.core.api.idempotency import once
from apps.core.api.parsers import FormParser, plain_name, sha256_of
from apps.core.api.schema import ConstantField, UnixField, responses
from apps.core.api.views import find

WRITE: dict[str, str] = {"POST": Scope.FILES_WRITE}


class NewUploadSerializer(serializers.Serializer[Any]):
    bytes = serializers.IntegerField(min_value=1, max_value=2**62, help_text="Of all parts together.")
    filename = serializers.CharField(max_length=1024, allow_blank=True, trim_whitespace=False)
    mime_type = serializers.CharField(max_length=255, help_text="Any: content is checked when it is used.")
    purpose = serializers.ChoiceField([purpose.value for purpose in UPLOAD_PURPOSES])
    expires_after = OutputExpirySerializer(required=False, allow_null=True, help_text="Of the file that it becomes.")


class NewPartSerializer(serializers.Serializer[Any]):
    """The multipart form of a part."""

    data = UploadField(  # type: ignore[assignment] # OpenAI's word
        max_length=255, allow_empty_file=True, help_text="At most 64 MiB, unless the server says otherwise."
    )


class CompletionSerializer(serializers.Serializer[Any]):
    part_ids = serializers.ListField(
        child=serializers.CharField(max_length=64), allow_empty=False, max_length=uploads.MAX_PARTS,
        help_text="In the order of the file, each once.",
    )  # fmt: skip
    md5 = serializers.CharField(max_length=64, required=False, allow_null=True, help_text="Of the whole file, in hex.")


class UploadObjectSerializer(serializers.Serializer[Upload]):
    id = serializers.CharField(source="uid")
    object = ConstantField("upload")
    bytes = serializers.IntegerField()
    created_at = UnixField()
    filename = serializers.CharField()
    purpose = serializers.CharField()
    status = serializers.SerializerMethodField(help_text=", ".join(Upload.Status.values))
    expires_at = UnixField()
    file = serializers.SerializerMethodField()

    def get_status(self, upload: Upload) -> str:
        over = upload.status == Upload.Status.PENDING and upload.expires_at <= timezone.now()
        return Upload.Status.EXPIRED.value if over else upload.status

    @extend_schema_field(FileSerializer(allow_null=True))
    def get_file(self, upload: Upload) -> Any:
        return FileSerializer(upload.file).data if upload.file else None


class UploadPartSerializer(serializers.Serializer[UploadPart]):
    id = serializers.CharField(source="uid")
    object = ConstantField("upload.part")
    created_at = UnixField()
    upload_id = serializers.CharField(source="upload.uid")


class UploadsView(ProjectView):
    required_scopes = WRITE

    @extend_schema(
        operation_id="create_upload",
        request=NewUploadSerializer,
        responses=responses(UploadObjectSerializer, 400, 409, 413, 415, 507),
    )
    def post(self, request: Request) -> Response:
        """A file that is too large for its purpose is refused here, before a byte of it was sent."""
        values = validated_body(NewUploadSerializer, request)
        expiry = values.get("expires_after")

        def create() -> dict[str, Any]:
            upload = uploads.create_upload(
                project=self.project,
                filename=plain_name(values["filename"]),
                purpose=values["purpose"],
                size=values["bytes"],
                expires_after=expiry["seconds"] if expiry else None,
            )
            return dict(UploadObjectSerializer(upload).data)

        return once(request, owner=self.project.uid, fingerprint=json.dumps(values, sort_keys=True), run=create)


class OneUploadView(ProjectView):
    required_scopes = WRITE

    def upload(self, upload_id: str) -> Upload:
        return find(Upload.objects.of(self.project).select_related("project", "file"), upload_id, "upload")


class PartsView(OneUploadView):
    parser_classes = [FormParser]

    @extend_schema(
        operation_id="create_upload_part",
        request={"multipart/form-data": NewPartSerializer},
        responses=responses(UploadPartSerializer, 400, 404, 409, 413, 415, 507),
    )
    def post(self, request: Request, upload_id: str) -> Response:
        """Parts may come in any order, several at once, and again. One that is answered is kept."""
        upload = self.upload(upload_id)
        data = validated_body(NewPartSerializer, request)["data"]

        def add() -> dict[str, Any]:
            return dict(UploadPartSerializer(uploads.add_part(upload=upload, content=data)).data)

        return once(request, owner=self.project.uid, fingerprint=f"{upload.uid} {sha256_of(data)}", run=add)


class CompleteUploadView(OneUploadView):
    repeats_are_harmless = True  # the same parts give the same file

    @extend_schema(
        operation_id="complete_upload",
        request=CompletionSerializer,
        responses=responses(UploadObjectSerializer, 400, 404, 409, 413, 415, 507),
    )
    def post(self, request: Request, upload_id: str) -> Response:
        """The file is there with all its bytes, or not at all. The same parts again get the same answer."""
        upload = self.upload(upload_id)
        values = validated_body(CompletionSerializer, request)
        done = uploads.complete_upload(upload=upload, part_ids=values["part_ids"], md5=values.get("md5"))
        return Response(UploadObjectSerializer(done).data)


class CancelUploadView(OneUploadView):
    @extend_schema(operation_id="cancel_upload", request=None, responses=responses(UploadObjectSerializer, 404, 409))
    def post(self, request: Request, upload_id: str) -> Response:
        """Its parts are deleted."""
        return Response(UploadObjectSerializer(uploads.cancel_upload(upload=self.upload(upload_id))).data)

"""/v1/files."""

from typing import Any

from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import Scope
from apps.batches import services, storage
from apps.batches.api.serializers import (
    FileDeletedSerializer,
    FileQuery,
    FileSerializer,
    UploadSerializer,
)
from apps.batches.models import File
from apps.core.api import ranges
from apps.core.api.bodies import validated_body
from apps.core.api.errors import ApiError
from apps.core.api.idempotency import once
from apps.core.api.pagination import list_object, page, validated_query
from apps.core.api.parsers import FormParser, sha256_of
from apps.core.api.schema import list_of, responses
from apps.core.api.views import find


class FilesView(ProjectView):
    required_scopes = {"GET": Scope.FILES_READ, "POST": Scope.FILES_WRITE}
    parser_classes = [FormParser]

    @extend_schema(operation_id="list_files", parameters=[FileQuery], responses=responses(list_of(FileSerializer), 400))
    def get(self, request: Request) -> Response:
        query = validated_query(FileQuery, request)
        files = File.objects.of(self.project)
        if purpose := query.get("purpose"):
            files = files.filter(purpose=purpose)
        found, has_more = page(files, query)
        return Response(list_object(FileSerializer, found, has_more=has_more))

    @extend_schema(
        operation_id="create_file",
        request={"multipart/form-data": UploadSerializer},
        responses=responses(FileSerializer, 400, 409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        values = validated_body(UploadSerializer, request)
        upload, purpose, seconds = values["file"], values["purpose"], values.get("expires_after[seconds]")

        def create() -> dict[str, Any]:
            file = services.create_file(
                project=self.project,
                filename=upload.name,
                purpose=purpose,
                upload=upload,
                expires_after_seconds=seconds,
            )
            return dict(FileSerializer(file).data)

        fingerprint = f"{upload.name} {purpose} {seconds} {sha256_of(upload)}"
        return once(request, owner=self.project.uid, fingerprint=fingerprint, run=create)


class FileView(ProjectView):
    required_scopes = {"GET": Scope.FILES_READ, "DELETE": Scope.FILES_WRITE}

    @extend_schema(operation_id="retrieve_file", responses=responses(FileSerializer, 404))
    def get(self, request: Request, file_id: str) -> Response:
        return Response(FileSerializer(find(File.objects.of(self.project), file_id, "file")).data)

    @extend_schema(operation_id="delete_file", responses=responses(FileDeletedSerializer, 404))
    def delete(self, request: Request, file_id: str) -> Response:
        services.delete_file(file=find(File.objects.of(self.project), file_id, "file"))
        return Response({"id": file_id, "object": "file", "deleted": True})


class FileContentView(ProjectView):
    required_scopes = {"GET": Scope.FILES_READ}

    @extend_schema(
        operation_id="download_file",
        description="The file's bytes. One range (`Range: bytes=…`) is answered with 206.",
        responses={
            **{code: answer for code, answer in responses(None, 404, 416).items() if code != 200},
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
            (206, "application/octet-stream"): OpenApiTypes.BINARY,
        },
    )
    def get(self, request: Request, file_id: str) -> StreamingHttpResponse:
        file = find(File.objects.of(self.project).unexpired(), file_id, "file")
        etag = f'"{file.sha256}"'
        wanted = _wanted_range(request, file, etag)
        part = wanted or ranges.ByteRange(0, file.bytes)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(part.end - part.start),
            "Content-Disposition": str(content_disposition_header(True, file.filename)),
            "Accept-Ranges": "bytes",
            "ETag": etag,
        }
        if wanted:
            headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{file.bytes}"
        try:
            chunks = storage.open_range(str(file.content), part.start, part.end)
        except FileNotFoundError as error:  # it was deleted a moment ago
            raise ApiError(404, f"No such file: {file_id}", "file_not_found", "id") from error
        return StreamingHttpResponse(chunks, status=206 if wanted else 200, headers=headers)


def _wanted_range(request: Request, file: File, etag: str) -> ranges.ByteRange | None:
    if request.headers.get("If-Range", etag) != etag:
        return None
    try:
        return ranges.parse(request.headers.get("Range", ""), file.bytes)
    except ranges.Unsatisfiable as error:
        headers = {"Content-Range": f"bytes */{file.bytes}"}
        raise ApiError(416, f"The file has {file.bytes} bytes.", "invalid_range", headers=headers) from error

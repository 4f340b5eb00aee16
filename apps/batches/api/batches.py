"""/v1/batches, and what this server offers beside OpenAI's routes: retry, pause, resume, output."""

import json
from functools import partial
from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import ApiKey, Project, Scope
from apps.batches import services
from apps.batches.api.serializers import (
    BatchQuery,
    BatchSerializer,
    NewBatchSerializer,
    OutputQuery,
)
from apps.batches.models import Batch, BatchQuerySet, File
from apps.batches.output import output_so_far
from apps.core.api.bodies import validated_body
from apps.core.api.idempotency import once
from apps.core.api.pagination import list_object, page, validated_query
from apps.core.api.schema import list_of, responses
from apps.core.api.streaming import stream
from apps.core.api.views import find
from apps.core.errors import Conflict

BATCH = responses(BatchSerializer, 404, 409)


class BatchesView(ProjectView):
    required_scopes = {"GET": Scope.BATCHES_READ, "POST": Scope.BATCHES_WRITE}

    @extend_schema(
        operation_id="list_batches", parameters=[BatchQuery], responses=responses(list_of(BatchSerializer), 400)
    )
    def get(self, request: Request) -> Response:
        found, has_more = page(_batches(self.project), validated_query(BatchQuery, request))
        return Response(list_object(BatchSerializer, found, has_more=has_more))

    @extend_schema(
        operation_id="create_batch",
        request=NewBatchSerializer,
        responses=responses(BatchSerializer, 400, 409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        """An input file that is not there, and a line that is none, are found later and end the batch as `failed`; a
        bad body is its line's error.
        """
        values = validated_body(NewBatchSerializer, request)
        key = values.pop("idempotency_key", None)
        return once(
            request,
            owner=self.project.uid,
            fingerprint=json.dumps(values, sort_keys=True),
            run=lambda: _create(self.key, values),
            key=key,
        )


def _create(key: ApiKey, values: dict[str, Any]) -> dict[str, Any]:
    project, file_id = key.project, values["input_file_id"]
    file = File.objects.of(project).unexpired().filter(uid=file_id).first()
    expiry = values.get("output_expires_after")
    batch = services.create_batch(
        project=project,
        input_file=file or file_id,
        endpoint=values["endpoint"],
        completion_window=values["completion_window"],
        metadata=values.get("metadata"),
        output_expires_after=expiry["seconds"] if expiry else None,
        priority=values["priority"],
        created_by=key,
    )
    return _shape(project, batch)


class BatchView(ProjectView):
    required_scopes = {"GET": Scope.BATCHES_READ}

    @extend_schema(operation_id="retrieve_batch", responses=responses(BatchSerializer, 404))
    def get(self, request: Request, batch_id: str) -> Response:
        return Response(BatchSerializer(find(_batches(self.project), batch_id, "batch")).data)


class BatchVerbView(ProjectView):
    """A change of a batch's state: the service says whether it was possible."""

    required_scopes = {"POST": Scope.BATCHES_WRITE}

    def change(self, batch: Batch) -> Batch:
        raise NotImplementedError

    def respond(self, batch_id: str) -> Response:
        batch = find(Batch.objects.of(self.project).select_related("project", "model", "created_by"), batch_id, "batch")
        return Response(_shape(self.project, self.change(batch)))


class CancelBatchView(BatchVerbView):
    @extend_schema(operation_id="cancel_batch", request=None, responses=BATCH)
    def post(self, request: Request, batch_id: str) -> Response:
        return self.respond(batch_id)

    def change(self, batch: Batch) -> Batch:
        if not services.cancel_batch(batch=batch):
            batch.refresh_from_db(fields=["status"])
            if batch.status not in (Batch.Status.CANCELLING, Batch.Status.CANCELLED):
                raise Conflict(f"Cannot cancel a batch with status '{batch.status}'.")
        return batch


class PauseBatchView(BatchVerbView):
    @extend_schema(operation_id="pause_batch", request=None, responses=BATCH)
    def post(self, request: Request, batch_id: str) -> Response:
        return self.respond(batch_id)

    def change(self, batch: Batch) -> Batch:
        if not services.pause_batch(batch=batch):
            raise Conflict(f"Cannot pause a batch with status '{batch.status}', or one that is paused already.")
        return batch


class ResumeBatchView(BatchVerbView):
    @extend_schema(operation_id="resume_batch", request=None, responses=BATCH)
    def post(self, request: Request, batch_id: str) -> Response:
        return self.respond(batch_id)

    def change(self, batch: Batch) -> Batch:
        if not services.resume_batch(batch=batch):
            raise Conflict("Cannot resume this batch: it is not paused.")
        return batch


class RetryBatchView(BatchVerbView):
    @extend_schema(
        operation_id="retry_batch",
        request=None,
        description="A new batch of the lines that failed, with their custom_ids.",
        responses=BATCH,
    )
    def post(self, request: Request, batch_id: str) -> Response:
        return self.respond(batch_id)

    def change(self, batch: Batch) -> Batch:
        return services.retry_batch(batch=batch, created_by=self.key)


class BatchOutputView(ProjectView):
    required_scopes = {"GET": Scope.BATCHES_READ}

    @extend_schema(
        operation_id="tail_batch_output",
        description="The lines known so far, in the shape and order of the output file, while the batch still runs.",
        parameters=[OutputQuery],
        responses={
            **{code: answer for code, answer in responses(None, 400, 404).items() if code != 200},
            (200, "application/jsonl"): OpenApiTypes.BINARY,
        },
    )
    def get(self, request: Request, batch_id: str) -> StreamingHttpResponse:
        failed = validated_query(OutputQuery, request)["failed"]
        batch = find(Batch.objects.of(self.project), batch_id, "batch")
        headers = {"Content-Type": "application/jsonl", "Cache-Control": "no-store"}
        return StreamingHttpResponse(stream(partial(output_so_far, batch, failed=failed)), headers=headers)


def _batches(project: Project) -> BatchQuerySet:
    return Batch.objects.of(project).with_progress().select_related("output_file", "error_file", "retry_of")


def _shape(project: Project, batch: Batch) -> dict[str, Any]:
    return dict(BatchSerializer(_batches(project).get(pk=batch.pk)).data)

"""A batch's progress as server-sent events."""

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from apps.accounts.api.views import ProjectView
from apps.accounts.models import Scope
from apps.batches.models import Batch
from apps.batches.progress import TOPIC
from apps.core.api.schema import responses
from apps.core.api.views import find
from apps.events import sse


class BatchEventsView(ProjectView):
    required_scopes = {"GET": Scope.BATCHES_READ}

    @extend_schema(
        operation_id="streamBatchEvents",
        summary="Watch a batch",
        description="Server-sent events: `progress` with the batch's counters after each change, then one `done`.",
        responses=responses(OpenApiTypes.STR, 404) | {(200, "text/event-stream"): OpenApiTypes.STR},
    )
    def get(self, request: Request, batch_id: str) -> StreamingHttpResponse:
        batch = find(Batch.objects.of(self.project), batch_id, "batch")
        return sse.stream(TOPIC, batch.uid, self.key)

"""What became of a job so far: its events, its checkpoints, its progress as a stream."""

from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import Scope
from apps.core.api.pagination import list_object, page, validated_query
from apps.core.api.schema import list_of, responses
from apps.core.api.views import find
from apps.events import sse
from apps.training.api.serializers import CheckpointQuery, CheckpointSerializer, JobEventQuery, JobEventSerializer
from apps.training.models import Checkpoint, Metric, TrainingJob
from apps.training.services import TOPIC


class JobPartView(ProjectView):
    required_scopes = {"GET": Scope.TRAINING_READ}

    def job(self, uid: str) -> TrainingJob:
        return find(TrainingJob.objects.of(self.project).select_related("project"), uid, "fine_tuning_job")


class JobEventsView(JobPartView):
    @extend_schema(
        operation_id="list_fine_tuning_job_events",
        parameters=[JobEventQuery],
        responses=responses(list_of(JobEventSerializer), 400, 404),
    )
    def get(self, request: Request, job_id: str) -> Response:
        found, has_more = page(self.job(job_id).events.all(), validated_query(JobEventQuery, request))
        return Response(list_object(JobEventSerializer, found, has_more=has_more))


class CheckpointsView(JobPartView):
    @extend_schema(
        operation_id="list_fine_tuning_job_checkpoints",
        parameters=[CheckpointQuery],
        responses=responses(list_of(CheckpointSerializer), 400, 404),
    )
    def get(self, request: Request, job_id: str) -> Response:
        job = self.job(job_id)
        found, has_more = page(job.checkpoints.all(), validated_query(CheckpointQuery, request))
        return Response(list_object(CheckpointSerializer, _measured(job, found), has_more=has_more))


def _measured(job: TrainingJob, checkpoints: list[Checkpoint]) -> list[Any]:
    """Each with what was measured at its step, and with the job that is there already."""
    metrics = {metric.step: metric for metric in job.metrics.filter(step__in=[each.step for each in checkpoints])}
    found: list[Any] = list(checkpoints)
    for each in found:
        each.job, each.measured = job, metrics.get(each.step, Metric(step=each.step))
    return found


class JobProgressView(JobPartView):
    @extend_schema(
        operation_id="stream_fine_tuning_job",
        summary="Watch a fine-tuning job",
        description="Server-sent events: `progress` with step, losses and pace after each change, then one `done`.",
        responses=responses(OpenApiTypes.STR, 404) | {(200, "text/event-stream"): OpenApiTypes.STR},
    )
    def get(self, request: Request, job_id: str) -> StreamingHttpResponse:
        return sse.stream(TOPIC, self.job(job_id).uid, self.key)

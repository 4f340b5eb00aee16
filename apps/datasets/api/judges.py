"""/v1/judges: a model scores the answers of a run by a rubric. An extension of OpenAI's API."""

import json
from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import Project, Scope
from apps.core.api.bodies import validated_body
from apps.core.api.idempotency import once
from apps.core.api.pagination import list_object, page, page_query, validated_query
from apps.core.api.schema import ConstantField, UnixField, list_of, responses
from apps.core.api.views import find
from apps.core.errors import Conflict
from apps.datasets.api.runs import RunBatchSerializer, found_runs, models_named, named
from apps.datasets.models import Judge
from apps.datasets.runs import judging, parameters
from apps.datasets.runs.progress import judges_of
from apps.events import sse


class NewJudgeSerializer(serializers.Serializer[Any]):
    run = serializers.CharField(max_length=50, help_text="The run's id.")
    model = serializers.CharField(max_length=200)
    rubric = serializers.CharField(
        max_length=judging.RUBRIC_CHARACTERS, trim_whitespace=False, help_text="What makes an answer good, in words."
    )
    only_unrated = serializers.BooleanField(default=False, help_text="Those that no reviewer has rated.")
    parameters = serializers.DictField(
        required=False, default=dict, help_text=", ".join(name for name in parameters.NAMES if name != "system")
    )


class JudgeSerializer(serializers.Serializer[Any]):
    """Of what `_values` makes."""

    id = serializers.CharField()
    object = ConstantField("judge")
    run = serializers.CharField()
    model = serializers.CharField()
    rubric = serializers.CharField()
    only_unrated = serializers.BooleanField()
    parameters = serializers.DictField()
    status = serializers.CharField(help_text="queued, in_progress, paused, completed, failed, cancelled …")
    total = serializers.IntegerField(help_text="Answers to score.")
    scored = serializers.IntegerField()
    failed = serializers.IntegerField(help_text="No score could be read, or the request failed.")
    message = serializers.CharField(help_text="Why answers have no score, or what it waits for.")
    batches = RunBatchSerializer(many=True)
    created_at = UnixField()
    ended_at = serializers.IntegerField(allow_null=True)


class JudgeQuery(page_query(default=20, maximum=100)):  # type: ignore[misc]
    run = serializers.CharField(required=False, max_length=50)


class JudgesView(ProjectView):
    required_scopes = {"GET": Scope.DATASETS_READ, "POST": Scope.DATASETS_WRITE}

    @extend_schema(
        operation_id="list_judges", parameters=[JudgeQuery], responses=responses(list_of(JudgeSerializer), 400)
    )
    def get(self, request: Request) -> Response:
        query = validated_query(JudgeQuery, request)
        rows = _judges(self.project)
        rows = rows.filter(run__uid=query["run"]) if "run" in query else rows
        found, has_more = page(rows, query)
        return Response(list_object(JudgeSerializer, _values(found), has_more=has_more))

    @extend_schema(
        operation_id="create_judge",
        request=NewJudgeSerializer,
        responses=responses(JudgeSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        """It is asked for a score from 1 to 5 for each answer, as a batch."""
        values = validated_body(NewJudgeSerializer, request)
        fingerprint = json.dumps(values, sort_keys=True)

        def run() -> dict[str, Any]:
            found = named(found_runs(self.project), values.pop("run"), "run")
            (model,) = models_named([values.pop("model")], self.key, "model")
            return _shape(judging.start_judge(run=found, model=model, api_key=self.key, **values))

        return once(request, owner=self.project.uid, fingerprint=fingerprint, run=run)


class JudgeView(ProjectView):
    required_scopes = {"GET": Scope.DATASETS_READ}

    @extend_schema(operation_id="retrieve_judge", responses=responses(JudgeSerializer, 404))
    def get(self, request: Request, judge_id: str) -> Response:
        return Response(_shape(find(_judges(self.project), judge_id, "judge")))


class CancelJudgeView(ProjectView):
    required_scopes = {"POST": Scope.DATASETS_WRITE}

    @extend_schema(operation_id="cancel_judge", request=None, responses=responses(JudgeSerializer, 404, 409))
    def post(self, request: Request, judge_id: str) -> Response:
        """Scores are kept."""
        judge = find(_judges(self.project), judge_id, "judge")
        if not judging.cancel_judge(judge=judge) and _shape(judge)["status"] not in ("cancelled", "cancelling"):
            raise Conflict("Cannot cancel this judge: it has ended.")
        return Response(_shape(judge))


class JudgeEventsView(ProjectView):
    required_scopes = {"GET": Scope.DATASETS_READ}

    @extend_schema(
        operation_id="streamJudgeEvents",
        summary="Watch a judge",
        description="Server-sent events: `progress` with its counts after each change, then one `done`.",
        responses=responses(OpenApiTypes.STR, 404) | {(200, "text/event-stream"): OpenApiTypes.STR},
    )
    def get(self, request: Request, judge_id: str) -> StreamingHttpResponse:
        return sse.stream(judging.TOPIC, find(_judges(self.project), judge_id, "judge").uid, self.key)


def _judges(project: Project) -> Any:
    return Judge.objects.of(project).select_related("run")


def _shape(judge: Judge) -> dict[str, Any]:
    return dict(JudgeSerializer(_values([judge])[0]).data)


def _values(found: list[Judge]) -> list[dict[str, Any]]:
    """Judges as values for `JudgeSerializer`."""
    snapshots = {snapshot["id"]: snapshot for snapshot in judges_of(found)}
    fields = ("rubric", "only_unrated", "parameters", "created_at")
    return [
        {
            **snapshots[judge.uid],
            "run": judge.run.uid,
            "scored": snapshots[judge.uid]["completed"],
            **{name: getattr(judge, name) for name in fields},
        }
        for judge in found
    ]

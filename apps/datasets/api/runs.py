"""/v1/runs: the examples of a dataset against models. An extension of OpenAI's API."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import ApiKey, Project, Scope
from apps.core.api.bodies import validated_body
from apps.core.api.errors import ApiError
from apps.core.api.idempotency import once
from apps.core.api.pagination import list_object, page, page_query, validated_query
from apps.core.api.schema import ConstantField, UnixField, list_of, responses
from apps.core.api.views import find
from apps.core.errors import Conflict
from apps.datasets.api.datasets import version_of
from apps.datasets.models import Dataset, Member, Run, Split
from apps.datasets.runs import estimates, parameters
from apps.datasets.runs import services as runs
from apps.datasets.runs.parameters import MAX_SAMPLES
from apps.datasets.runs.progress import snapshots_of
from apps.events import sse
from apps.models.models import Model


class ChosenSerializer(serializers.Serializer[Any]):
    """What a run, or the estimate of one, is made of."""

    dataset = serializers.CharField(max_length=50, help_text="The dataset's id.")
    version = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1, help_text="The latest.")
    models = serializers.ListField(child=serializers.CharField(max_length=200), help_text="Names; a column each.")
    parameters = serializers.DictField(required=False, default=dict, help_text=", ".join(parameters.NAMES))
    samples = serializers.IntegerField(
        default=1, min_value=1, max_value=MAX_SAMPLES, help_text="Answers to each prompt."
    )
    split = serializers.CharField(required=False, max_length=50, help_text="The split's id; its examples only.")
    part = serializers.ChoiceField(Member.Part.values, required=False, default="", help_text="Of the split.")


class NewRunSerializer(ChosenSerializer):
    name = serializers.CharField(required=False, default="", max_length=runs.NAME_CHARACTERS)


class NewColumnSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=200)


class RunBatchSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    status = serializers.CharField()


class ColumnSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    label = serializers.CharField()  # type: ignore[assignment] # DRF has an attribute of this name
    model = serializers.CharField(allow_blank=True, help_text="Empty: the answers were imported.")
    revision = serializers.CharField(allow_blank=True)
    status = serializers.CharField()
    total = serializers.IntegerField()
    answered = serializers.IntegerField()
    incomplete = serializers.IntegerField(help_text="Of these, blank, cut off, filtered or refused ones.")
    blank = serializers.IntegerField(help_text="Of these, those with neither text nor calls of tools.")
    failed = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    batches = RunBatchSerializer(many=True)


class RunCountsSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    completed = serializers.IntegerField()
    failed = serializers.IntegerField()


class RunUsageSerializer(serializers.Serializer[Any]):
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()


class RunSerializer(serializers.Serializer[Any]):
    """Of what `shapes` makes."""

    id = serializers.CharField()
    object = ConstantField("run")
    dataset = serializers.CharField()
    version = serializers.IntegerField()
    split = serializers.CharField(allow_null=True)
    part = serializers.CharField(allow_blank=True)
    name = serializers.CharField()
    parameters = serializers.DictField()
    samples = serializers.IntegerField()
    items = serializers.IntegerField(help_text="Examples.")
    status = serializers.CharField(help_text="queued, in_progress, paused, completed, failed, cancelled …")
    request_counts = RunCountsSerializer()
    usage = RunUsageSerializer()
    columns = ColumnSerializer(many=True)
    created_at = UnixField()
    in_progress_at = serializers.IntegerField(allow_null=True)
    ended_at = serializers.IntegerField(allow_null=True)


class RunDeletedSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = ConstantField("run")
    deleted = serializers.BooleanField()


class ModelEstimateSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    requests = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    seconds = serializers.FloatField(allow_null=True, help_text="On one device; null where nothing is known.")
    cost = serializers.FloatField(allow_null=True)
    input_from = serializers.CharField()
    output_from = serializers.CharField()
    seconds_from = serializers.CharField()


class EstimateSerializer(serializers.Serializer[Any]):
    object = ConstantField("run.estimate")
    items = serializers.IntegerField()
    samples = serializers.IntegerField()
    models = ModelEstimateSerializer(many=True)
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    seconds = serializers.FloatField(allow_null=True, help_text="One model after another on one device.")
    cost = serializers.FloatField(allow_null=True)
    currency = serializers.CharField()


class RunQuery(page_query(default=20, maximum=100)):  # type: ignore[misc]
    dataset = serializers.CharField(required=False, max_length=50)


class RunsView(ProjectView):
    required_scopes = {"GET": Scope.DATASETS_READ, "POST": Scope.DATASETS_WRITE}

    @extend_schema(operation_id="list_runs", parameters=[RunQuery], responses=responses(list_of(RunSerializer), 400))
    def get(self, request: Request) -> Response:
        query = validated_query(RunQuery, request)
        rows = found_runs(self.project)
        rows = rows.filter(dataset__uid=query["dataset"]) if "dataset" in query else rows
        found, has_more = page(rows, query)
        return Response(list_object(RunSerializer, shapes(found), has_more=has_more))

    @extend_schema(
        operation_id="create_run",
        request=NewRunSerializer,
        responses=responses(RunSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        """One batch for each model, or several where it would be too large; answers come in while they run."""
        values = validated_body(NewRunSerializer, request)

        def run() -> dict[str, Any]:
            chosen = _chosen(self.key, values)
            dataset = chosen["version"].dataset
            more = {"dataset": dataset, "project": self.project, "api_key": self.key, "name": values["name"]}
            return shape(runs.start_run(**chosen, **more))

        return once(request, owner=self.project.uid, fingerprint=json.dumps(values, sort_keys=True), run=run)


class EstimateView(ProjectView):
    required_scopes = {"POST": Scope.DATASETS_READ}
    repeats_are_harmless = True

    @extend_schema(
        operation_id="estimate_run",
        request=NewRunSerializer,
        responses=responses(EstimateSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        """Tokens, time and cost, and where each number comes from. It takes what a run takes, and starts nothing."""
        chosen = _chosen(self.key, validated_body(NewRunSerializer, request))
        chosen["parameters"] = parameters.check(chosen["parameters"])
        return Response(EstimateSerializer(estimates.estimate(**chosen).as_dict()).data)


class RunView(ProjectView):
    required_scopes = {"GET": Scope.DATASETS_READ, "DELETE": Scope.DATASETS_WRITE}

    @extend_schema(operation_id="retrieve_run", responses=responses(RunSerializer, 404))
    def get(self, request: Request, run_id: str) -> Response:
        return Response(shape(find(found_runs(self.project), run_id, "run")))

    @extend_schema(operation_id="delete_run", responses=responses(RunDeletedSerializer, 404))
    def delete(self, request: Request, run_id: str) -> Response:
        """What goes on in it is stopped; its answers, and what was decided about them, go with it."""
        runs.delete_run(run=find(found_runs(self.project), run_id, "run"))
        return Response({"id": run_id, "object": "run", "deleted": True})


class CancelRunView(ProjectView):
    required_scopes = {"POST": Scope.DATASETS_WRITE}

    @extend_schema(operation_id="cancel_run", request=None, responses=responses(RunSerializer, 404, 409))
    def post(self, request: Request, run_id: str) -> Response:
        """Answers are kept. Its judges stop too."""
        run = find(found_runs(self.project), run_id, "run")
        if not runs.cancel_run(run=run) and shape(run)["status"] not in ("cancelled", "cancelling"):
            raise Conflict("Cannot cancel this run: nothing of it goes on.")
        return Response(shape(run))


class RerunView(ProjectView):
    required_scopes = {"POST": Scope.DATASETS_WRITE}

    @extend_schema(operation_id="rerun_run", request=None, responses=responses(RunSerializer, 400, 404, 409))
    def post(self, request: Request, run_id: str) -> Response:
        """Asks again for what has no answer, or a failed one."""
        run = find(found_runs(self.project), run_id, "run")
        runs.rerun_missing(run=run, api_key=self.key)
        return Response(shape(run))


class ColumnsView(ProjectView):
    required_scopes = {"POST": Scope.DATASETS_WRITE}

    @extend_schema(
        operation_id="create_run_column",
        request=NewColumnSerializer,
        responses=responses(RunSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request, run_id: str) -> Response:
        """One more model is asked what the others were asked."""
        run = find(found_runs(self.project), run_id, "run")
        name = validated_body(NewColumnSerializer, request)["model"]

        def add() -> dict[str, Any]:
            (model,) = models_named([name], self.key, "model")
            runs.add_column(run=run, model=model, api_key=self.key)
            return shape(run)

        return once(request, owner=self.project.uid, fingerprint=name, run=add)


class RunEventsView(ProjectView):
    required_scopes = {"GET": Scope.DATASETS_READ}

    @extend_schema(
        operation_id="streamRunEvents",
        summary="Watch a run",
        description="Server-sent events: `progress` with the counts of each column after each change, then one `done`.",
        responses=responses(OpenApiTypes.STR, 404) | {(200, "text/event-stream"): OpenApiTypes.STR},
    )
    def get(self, request: Request, run_id: str) -> StreamingHttpResponse:
        return sse.stream(runs.TOPIC, find(found_runs(self.project), run_id, "run").uid, self.key)


def found_runs(project: Project) -> QuerySet[Run]:
    return Run.objects.of(project).select_related("project", "dataset", "version", "split")


def shape(run: Run) -> dict[str, Any]:
    return dict(RunSerializer(shapes([run])[0]).data)


def shapes(found: Sequence[Run]) -> list[dict[str, Any]]:
    """Runs as values for `RunSerializer`; five queries, however many there are."""
    snapshots = snapshots_of(found)
    return [_values(run, snapshots[run.pk]) for run in found]


def models_named(names: Iterable[str], key: ApiKey, param: str) -> list[Model]:
    """Raises `ApiError` 404 for one that the key may not use."""
    known = {model.name: model for model in Model.objects.usable_by(key.project).filter(name__in=list(names))}
    for name in names:
        if name not in known or not key.allows_model(name):
            message = f"The model '{name}' does not exist or you do not have access to it."
            raise ApiError(404, message, "model_not_found", param)
    return [known[name] for name in names]


def named(rows: QuerySet[Any], uid: str, noun: str) -> Any:
    """What a body names. Raises `ApiError` 404 with the parameter."""
    row = rows.filter(uid=uid).first()
    if row is None:
        raise ApiError(404, f"No such {noun}: {uid}", f"{noun}_not_found", noun)
    return row


def _chosen(key: ApiKey, values: dict[str, Any]) -> dict[str, Any]:
    """What `start_run` and `estimate` share."""
    dataset = named(Dataset.objects.of(key.project), values["dataset"], "dataset")
    version = version_of(dataset, values.get("version"))
    splits = Split.objects.filter(version__dataset=dataset)
    return {
        "version": version,
        "models": models_named(values["models"], key, "models"),
        "parameters": values["parameters"],
        "samples": values["samples"],
        "split": named(splits, values["split"], "split") if "split" in values else None,
        "part": values["part"],
    }


def _values(run: Run, snapshot: dict[str, Any]) -> dict[str, Any]:
    counts = {name: snapshot[name] for name in ("total", "completed", "failed")}
    tokens = {name: snapshot[name] for name in ("input_tokens", "output_tokens")}
    return {
        "id": run.uid,
        "dataset": run.dataset.uid,
        "version": run.version.number,
        "split": run.split.uid if run.split else None,
        "part": run.part,
        "name": run.name,
        "parameters": run.parameters,
        "samples": run.samples,
        "items": run.items_total,
        "status": snapshot["status"],
        "request_counts": counts,
        "usage": tokens,
        "columns": snapshot["columns"],
        "created_at": run.created_at,
        "in_progress_at": snapshot["in_progress_at"],
        "ended_at": snapshot["ended_at"],
    }

"""/v1/models/benchmarks: measure a model, and read what was measured. An extension of OpenAI's API."""

import json
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import ApiKey, Scope
from apps.core.api.bodies import validated_body
from apps.core.api.errors import ApiError
from apps.core.api.idempotency import once
from apps.core.api.pagination import list_object, page, page_query, validated_query
from apps.core.api.schema import ConstantField, UnixField, list_of, responses
from apps.core.api.views import find
from apps.core.errors import Conflict
from apps.models.benchmarks import services as benchmarks
from apps.models.models import Benchmark, Model


class NewBenchmarkSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=200)
    concurrencies = serializers.ListField(
        child=serializers.IntegerField(),
        required=False,
        help_text="Numbers of requests in flight; those beyond what the engine computes at once are left out.",
    )
    prompt_tokens = serializers.IntegerField(required=False)
    output_tokens = serializers.IntegerField(required=False)
    requests_per_level = serializers.IntegerField(
        required=False, allow_null=True, help_text="Four for each request in flight, at least eight, if left out."
    )


class BenchmarkSerializer(serializers.Serializer[Benchmark]):
    id = serializers.CharField(source="uid")
    object = ConstantField("benchmark")
    model = serializers.CharField(source="model.name")
    revision = serializers.CharField(allow_blank=True)
    device = serializers.CharField(source="device_name", allow_blank=True)
    status = serializers.ChoiceField(Benchmark.Status.values)
    message = serializers.CharField(allow_blank=True)
    sweep = serializers.DictField()
    engine_settings = serializers.DictField()
    levels = serializers.ListField(child=serializers.DictField(), help_text="Figures for each number in flight.")
    created_at = UnixField()
    ended_at = UnixField(allow_null=True)


class BenchmarkQuery(page_query(default=20, maximum=100)):  # type: ignore[misc]
    model = serializers.CharField(required=False)


def _visible(key: ApiKey) -> Any:
    found = benchmarks.visible_to(key.project).select_related("model")
    return found.filter(model__name__in=key.allowed_models) if key.allowed_models else found


def _shape(benchmark: Benchmark) -> dict[str, Any]:
    return dict(BenchmarkSerializer(benchmark).data)


class BenchmarksView(ProjectView):
    required_scopes = {"GET": Scope.MODELS_READ, "POST": Scope.MODELS_WRITE}

    @extend_schema(
        operation_id="list_benchmarks",
        parameters=[BenchmarkQuery],
        responses=responses(list_of(BenchmarkSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        query = validated_query(BenchmarkQuery, request)
        rows = _visible(self.key)
        rows = rows.filter(model__name=query["model"]) if "model" in query else rows
        found, has_more = page(rows, query)
        return Response(list_object(BenchmarkSerializer, found, has_more=has_more))

    @extend_schema(
        operation_id="create_benchmark",
        request=NewBenchmarkSerializer,
        responses=responses(BenchmarkSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        values = validated_body(NewBenchmarkSerializer, request)
        name = values.pop("model")
        model = Model.objects.usable_by(self.project).filter(name=name).first()
        if model is None or not self.key.allows_model(name):
            message = f"The model '{name}' does not exist or you do not have access to it."
            raise ApiError(404, message, "model_not_found", "model")

        return once(
            request,
            owner=self.project.uid,
            fingerprint=json.dumps([name, values], sort_keys=True),
            run=lambda: _shape(benchmarks.start_benchmark(model=model, project=self.project, **values)),
        )


class BenchmarkView(ProjectView):
    required_scopes = {"GET": Scope.MODELS_READ}

    @extend_schema(operation_id="retrieve_benchmark", responses=responses(BenchmarkSerializer, 404))
    def get(self, request: Request, benchmark_id: str) -> Response:
        return Response(_shape(find(_visible(self.key), benchmark_id, "benchmark")))


class CancelBenchmarkView(ProjectView):
    required_scopes = {"POST": Scope.MODELS_WRITE}

    @extend_schema(operation_id="cancel_benchmark", request=None, responses=responses(BenchmarkSerializer, 404, 409))
    def post(self, request: Request, benchmark_id: str) -> Response:
        """Levels that were measured are kept. A benchmark of another project is not found, whoever may see it."""
        benchmark = find(_visible(self.key).of(self.project), benchmark_id, "benchmark")
        if not benchmarks.cancel_benchmark(benchmark=benchmark) and benchmark.status in Benchmark.ENDED:
            raise Conflict(f"Cannot cancel a benchmark with status '{benchmark.status}'.")
        return Response(_shape(benchmark))

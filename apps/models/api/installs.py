"""/v1/models/install and /v1/models/installs: make models usable. An extension of OpenAI's API."""

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
from apps.core.api.errors import ApiError
from apps.core.api.idempotency import once
from apps.core.api.pagination import list_object, page, page_query, validated_query
from apps.core.api.schema import ConstantField, UnixField, list_of, responses
from apps.core.api.views import find
from apps.core.errors import Conflict
from apps.events import sse
from apps.models import services
from apps.models.installs.progress import TOPIC
from apps.models.models import Install, Model


class NewInstallSerializer(serializers.Serializer[Any]):
    source = serializers.CharField(  # type: ignore[assignment] # DRF has an attribute of this name
        max_length=500, help_text="The address of a repository of the hub, owner/name, or owner/name@revision."
    )
    name = serializers.CharField(
        required=False, default="", max_length=200, help_text="What requests call the model; owner/name if left out."
    )
    base = serializers.CharField(
        required=False, max_length=200, help_text="The model that an adapter was trained on, if it does not say itself."
    )
    engine_settings = serializers.DictField(required=False)


class RefusalSerializer(serializers.Serializer[Any]):
    file = serializers.CharField(allow_blank=True)
    reason = serializers.CharField()


class InstallSerializer(serializers.Serializer[Install]):
    id = serializers.CharField(source="uid")
    object = ConstantField("model.install")
    source = serializers.CharField()  # type: ignore[assignment] # DRF has an attribute of this name
    model = serializers.CharField(source="name", help_text="Its name, once it is ready.")
    base = serializers.CharField(source="base.name", default=None, allow_null=True)
    engine_settings = serializers.DictField()
    status = serializers.ChoiceField(Install.Status.values)
    message = serializers.CharField(allow_blank=True, help_text="A sentence; for a refusal, what to do.")
    revision = serializers.CharField(allow_blank=True, help_text="The commit.")
    license = serializers.CharField(allow_blank=True)
    bytes_done = serializers.IntegerField(help_text="Fetched, or looked at.")
    bytes_total = serializers.IntegerField()
    fit = serializers.DictField(help_text="Whether it fits: `verdict`, `sentence`, and the numbers of each device.")
    refusals = RefusalSerializer(many=True)
    created_at = UnixField()
    ended_at = UnixField(allow_null=True)


class InstallQuery(page_query(default=20, maximum=100)):  # type: ignore[misc]
    pass


class NewInstallView(ProjectView):
    required_scopes = {"POST": Scope.MODELS_WRITE}

    @extend_schema(
        operation_id="install_model",
        request=NewInstallSerializer,
        responses=responses(InstallSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        """It goes on by itself: watch its events, or look at it until it is `ready`, `refused` or `failed`."""
        values = validated_body(NewInstallSerializer, request)
        fingerprint = json.dumps(values, sort_keys=True)
        base = self._base(values.pop("base", ""))

        def run() -> dict[str, Any]:
            install = services.start_install(**values, base=base, project=self.project)
            return dict(InstallSerializer(install).data)

        return once(request, owner=self.project.uid, fingerprint=fingerprint, run=run)

    def _base(self, name: str) -> Model | None:
        base = Model.objects.usable_by(self.project).filter(name=name).first() if "\0" not in name else None
        if name and base is None:
            message = f"The model '{name}' does not exist or you do not have access to it."
            raise ApiError(404, message, "model_not_found", "base")
        return base


class InstallsView(ProjectView):
    required_scopes = {"GET": Scope.MODELS_READ}

    @extend_schema(
        operation_id="list_installs", parameters=[InstallQuery], responses=responses(list_of(InstallSerializer), 400)
    )
    def get(self, request: Request) -> Response:
        found, has_more = page(_installs(self.project), validated_query(InstallQuery, request))
        return Response(list_object(InstallSerializer, found, has_more=has_more))


class InstallView(ProjectView):
    required_scopes = {"GET": Scope.MODELS_READ}

    @extend_schema(operation_id="retrieve_install", responses=responses(InstallSerializer, 404))
    def get(self, request: Request, install_id: str) -> Response:
        return Response(InstallSerializer(find(_installs(self.project), install_id, "install")).data)


class CancelInstallView(ProjectView):
    required_scopes = {"POST": Scope.MODELS_WRITE}

    @extend_schema(operation_id="cancel_install", request=None, responses=responses(InstallSerializer, 404, 409))
    def post(self, request: Request, install_id: str) -> Response:
        """It stops within seconds."""
        install = find(_installs(self.project), install_id, "install")
        if not services.cancel_install(install=install):
            install.refresh_from_db()
            if install.status in Install.ENDED and install.status != Install.Status.CANCELLED:
                raise Conflict(f"Cannot cancel an install with status '{install.status}'.")
        return Response(InstallSerializer(install).data)


class RetryInstallView(ProjectView):
    required_scopes = {"POST": Scope.MODELS_WRITE}

    @extend_schema(operation_id="retry_install", request=None, responses=responses(InstallSerializer, 400, 404, 409))
    def post(self, request: Request, install_id: str) -> Response:
        """What was fetched is not fetched again."""
        install = find(_installs(self.project), install_id, "install")
        if not services.retry_install(install=install):
            raise Conflict(f"Cannot retry an install with status '{install.status}'.")
        return Response(InstallSerializer(install).data)


class InstallEventsView(ProjectView):
    required_scopes = {"GET": Scope.MODELS_READ}

    @extend_schema(
        operation_id="streamInstallEvents",
        summary="Watch an install",
        description="Server-sent events: `progress` with step and bytes after each change, then one `done`.",
        responses=responses(OpenApiTypes.STR, 404) | {(200, "text/event-stream"): OpenApiTypes.STR},
    )
    def get(self, request: Request, install_id: str) -> StreamingHttpResponse:
        return sse.stream(TOPIC, find(_installs(self.project), install_id, "install").uid, self.key)


def _installs(project: Project) -> Any:
    return Install.objects.of(project).select_related("base")

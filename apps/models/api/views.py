"""/v1/models: what the key may use."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import ApiKey, Scope
from apps.core.api.errors import ApiError
from apps.core.api.pagination import list_object
from apps.core.api.schema import list_of, responses
from apps.models.api.serializers import ModelSerializer
from apps.models.models import Model


def _usable(key: ApiKey) -> QuerySet[Model]:
    models = Model.objects.usable_by(key.project)
    return models.filter(name__in=key.allowed_models) if key.allowed_models else models


class ModelsView(ProjectView):
    required_scopes = {"GET": Scope.MODELS_READ}

    @extend_schema(operation_id="list_models", responses=responses(list_of(ModelSerializer)))
    def get(self, request: Request) -> Response:
        return Response(list_object(ModelSerializer, list(_usable(self.key)), has_more=False))


class ModelView(ProjectView):
    required_scopes = {"GET": Scope.MODELS_READ}

    @extend_schema(operation_id="retrieve_model", responses=responses(ModelSerializer, 404))
    def get(self, request: Request, name: str) -> Response:
        model = None if "\0" in name else _usable(self.key).filter(name=name).first()
        if model is None:
            message = f"The model '{name}' does not exist or you do not have access to it."
            raise ApiError(404, message, "model_not_found", "model")
        return Response(ModelSerializer(model).data)

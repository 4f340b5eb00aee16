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
from apps.models.api.serializers import ModelDeletedSerializer, ModelSerializer
from apps.models.models import Model
from apps.models.services import delete_model


def _usable(key: ApiKey) -> QuerySet[Model]:
    models = Model.objects.usable_by(key.project).select_related("base")
    return models.filter(name__in=key.allowed_models) if key.allowed_models else models


class ModelsView(ProjectView):
    required_scopes = {"GET": Scope.MODELS_READ}

    @extend_schema(operation_id="list_models", responses=responses(list_of(ModelSerializer)))
    def get(self, request: Request) -> Response:
        return Response(list_object(ModelSerializer, list(_usable(self.key)), has_more=False))


class ModelView(ProjectView):
    required_scopes = {"GET": Scope.MODELS_READ, "DELETE": Scope.MODELS_WRITE}

    @extend_schema(operation_id="retrieve_model", responses=responses(ModelSerializer, 404))
    def get(self, request: Request, name: str) -> Response:
        return Response(ModelSerializer(self._model(name)).data)

    @extend_schema(operation_id="delete_model", responses=responses(ModelDeletedSerializer, 404, 409))
    def delete(self, request: Request, name: str) -> Response:
        """Its engine stops, and files that no other model needs go. A model of all projects is for administrators."""
        model = self._model(name)
        if model.project != self.project:
            raise ApiError(403, f"The model '{name}' belongs to all projects: an administrator can delete it.")
        delete_model(model=model)
        return Response(ModelDeletedSerializer({"id": name, "deleted": True}).data)

    def _model(self, name: str) -> Model:
        model = None if "\0" in name else _usable(self.key).select_related("project", "base").filter(name=name).first()
        if model is None:
            message = f"The model '{name}' does not exist or you do not have access to it."
            raise ApiError(404, message, "model_not_found", "model")
        return model

"""GET /v1/deployments/{id}/package: a fine-tuned model's files. An extension of OpenAI's API."""

from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from apps.accounts.api.views import ProjectView
from apps.accounts.models import Scope
from apps.core.api.schema import responses
from apps.core.api.streaming import stream
from apps.core.api.views import find
from apps.training.deployments import packages
from apps.training.models import Deployment


class PackageView(ProjectView):
    required_scopes = {"GET": Scope.TRAINING_READ}

    @extend_schema(
        operation_id="download_deployment",
        summary="Download a deployment",
        description="A .tar with the adapter, or the merged model, in Hugging Face's layout, and a card.",
        responses={
            **{code: answer for code, answer in responses(None, 404, 409).items() if code != 200},
            (200, "application/x-tar"): OpenApiTypes.BINARY,
        },
    )
    def get(self, request: Request, deployment_id: str) -> StreamingHttpResponse:
        rows = Deployment.objects.of(self.project).select_related("checkpoint__job__base", "checkpoint__job__project")
        package = packages.of_deployment(find(rows, deployment_id, "deployment"))
        headers = {
            "Content-Type": "application/x-tar",
            "Content-Length": str(package.size),
            "Content-Disposition": str(content_disposition_header(True, f"{package.name}.tar")),
        }
        return StreamingHttpResponse(stream(package.tar), headers=headers)

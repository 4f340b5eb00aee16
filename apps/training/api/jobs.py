"""/v1/fine_tuning/jobs: https://platform.openai.com/docs/api-reference/fine-tuning."""

import json
import re
from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import ApiKey, Project, Scope
from apps.batches.models import File
from apps.batches.services import check_metadata
from apps.core.api.bodies import validated_body
from apps.core.api.errors import ApiError
from apps.core.api.idempotency import once
from apps.core.api.pagination import list_object, page, validated_query
from apps.core.api.schema import list_of, responses
from apps.core.api.views import find
from apps.core.errors import Conflict, DomainError
from apps.models.models import Model
from apps.training import services
from apps.training.api.hyperparameters import METHODS, options_of
from apps.training.api.serializers import JobQuery, JobSerializer, NewJobSerializer
from apps.training.models import TrainingJob, TrainingJobQuerySet
from apps.training.options import FIELDS

FILTER = re.compile(r"metadata\[(.*)\]", re.DOTALL)
METADATA = OpenApiParameter(
    "metadata",
    {"type": "object", "additionalProperties": {"type": "string"}},
    style="deepObject",
    explode=True,
    description="`metadata[k]=v`: jobs that have the pair. `metadata=null`: jobs that have none.",
)
JOB = responses(JobSerializer, 404, 409)


class JobsView(ProjectView):
    required_scopes = {"GET": Scope.TRAINING_READ, "POST": Scope.TRAINING_WRITE}

    @extend_schema(
        operation_id="list_fine_tuning_jobs",
        parameters=[JobQuery, METADATA],
        responses=responses(list_of(JobSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        query = validated_query(JobQuery, request)
        found, has_more = page(jobs_of(self.project).filter(**_metadata(request.query_params)), query)
        return Response(list_object(JobSerializer, found, has_more=has_more))

    @extend_schema(
        operation_id="create_fine_tuning_job",
        request=NewJobSerializer,
        responses=responses(JobSerializer, 400, 409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        """A model or a file that does not exist for the key is a bad parameter (400); whatever is wrong inside a file
        is found later and ends the job as `failed`, with the lines in `file_errors` and in the file `errors_file_id`.
        """
        values = validated_body(NewJobSerializer, request)
        return once(
            request,
            owner=self.project.uid,
            fingerprint=json.dumps(values, sort_keys=True),
            run=lambda: _create(self.key, values),
        )


def jobs_of(project: Project) -> TrainingJobQuerySet:
    files = ("result_file", "errors_file", "left_out_file")
    return TrainingJob.objects.of(project).select_related("project", "retry_of", *files)


def shape(job: TrainingJob) -> dict[str, Any]:
    return dict(JobSerializer(jobs_of(job.project).get(pk=job.pk)).data)


def _metadata(parameters: Mapping[str, str]) -> dict[str, Any]:
    """The filter that the query asks for. Raises `DomainError`."""
    pairs = {match[1]: value for name, value in parameters.items() if (match := FILTER.fullmatch(name))}
    whole = parameters.get("metadata", "")
    if whole not in ("", "null") or (whole and pairs):
        message = "Write metadata[key]=value for jobs that have the pair, or metadata=null for jobs without metadata."
        raise DomainError(message, param="metadata", code="invalid_value")
    check_metadata(pairs)
    if whole:
        return {"metadata__isnull": True}
    return {"metadata__contains": pairs} if pairs else {}


def _create(key: ApiKey, values: dict[str, Any]) -> dict[str, Any]:
    if values.get("integrations"):
        message = "No integrations are offered: leave them out, and follow the job by its events and its page."
        raise ApiError(400, message, "unsupported", "integrations")
    method, asked = _method(values)
    base, chosen = _base(key, values["model"]), values["options"]
    try:
        job = services.create_job(
            project=key.project,
            base=base,
            training_file=_file(key.project, values["training_file"], "training_file"),
            validation_file=_validation_file(key.project, values.get("validation_file")),
            method=METHODS[method],
            technique=values["technique"],
            options=options_of(
                base, asked, chosen, values.get("seed"), method=METHODS[method], technique=values["technique"]
            ),
            suffix=values.get("suffix") or "",
            hyperparameters=asked,
            metadata=values.get("metadata"),
            created_by=key.created_by,
            api_key=key,
        )
    except DomainError as error:
        if error.param in chosen:
            error.param = f"options.{error.param}" if error.param in FIELDS else "options"
        raise
    return shape(job)


def _method(values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """OpenAI's name of the method, and its hyperparameters. Raises `ApiError`."""
    method = values.get("method") or {"type": "supervised"}
    kind, outdated = method["type"], values.get("hyperparameters") or {}
    if kind == "reinforcement":
        message = "Reinforcement fine-tuning is not offered: use 'supervised', or 'dpo' or 'kto' for preferences."
        raise ApiError(400, message, "unsupported", "method.type")
    for other in (*METHODS, "reinforcement"):
        if other != kind and method.get(other):
            message = f"The method is {kind!r}: leave 'method.{other}' out."
            raise ApiError(400, message, "invalid_value", f"method.{other}")
    asked = (method.get(kind) or {}).get("hyperparameters") or {}
    if asked and outdated:
        message = "Give the hyperparameters once, in the method."
        raise ApiError(400, message, "invalid_value", "hyperparameters")
    return kind, dict(asked or outdated)


def _base(key: ApiKey, name: str) -> Model:
    model = Model.objects.usable_by(key.project).select_related("base", "project").filter(name=name).first()
    if model is None or not key.allows_model(name):
        message = f"The model {name!r} does not exist or you do not have access to it."
        raise ApiError(400, message, "model_not_found", "model")
    return model


def _validation_file(project: Project, uid: str | None) -> File | None:
    return _file(project, uid, "validation_file") if uid else None


def _file(project: Project, uid: str, param: str) -> File:
    file = File.objects.of(project).unexpired().filter(uid=uid).first()
    if file is None:
        raise ApiError(400, f"No such file: {uid}. Upload it first.", "file_not_found", param)
    return file


class JobView(ProjectView):
    required_scopes = {"GET": Scope.TRAINING_READ}

    @extend_schema(operation_id="retrieve_fine_tuning_job", responses=responses(JobSerializer, 404))
    def get(self, request: Request, job_id: str) -> Response:
        return Response(JobSerializer(find(jobs_of(self.project), job_id, "fine_tuning_job")).data)


class JobVerbView(ProjectView):
    """A change of a job's state, or a new job from it: the service says whether it was possible."""

    required_scopes = {"POST": Scope.TRAINING_WRITE}

    def change(self, job: TrainingJob) -> TrainingJob:
        raise NotImplementedError

    def respond(self, job_id: str) -> Response:
        job = find(TrainingJob.objects.of(self.project).select_related("project"), job_id, "fine_tuning_job")
        return Response(shape(self.change(job)))


class CancelJobView(JobVerbView):
    @extend_schema(operation_id="cancel_fine_tuning_job", request=None, responses=JOB)
    def post(self, request: Request, job_id: str) -> Response:
        """Its checkpoints stay. One that runs ends within seconds."""
        return self.respond(job_id)

    def change(self, job: TrainingJob) -> TrainingJob:
        if not services.cancel_job(job=job):
            job.refresh_from_db()
            if job.status in (job.Status.SUCCEEDED, job.Status.FAILED):
                raise Conflict(f"Cannot cancel a job with status '{job.status}'.")
        return job


class PauseJobView(JobVerbView):
    @extend_schema(operation_id="pause_fine_tuning_job", request=None, responses=JOB)
    def post(self, request: Request, job_id: str) -> Response:
        """It saves what it learned, and lets go of the device."""
        return self.respond(job_id)

    def change(self, job: TrainingJob) -> TrainingJob:
        if not services.pause_job(job=job):
            raise Conflict(f"Cannot pause a job with status '{job.status}', or one that is paused already.")
        return job


class ResumeJobView(JobVerbView):
    @extend_schema(operation_id="resume_fine_tuning_job", request=None, responses=JOB)
    def post(self, request: Request, job_id: str) -> Response:
        """It goes on from its last checkpoint."""
        return self.respond(job_id)

    def change(self, job: TrainingJob) -> TrainingJob:
        if not services.resume_job(job=job):
            raise Conflict("Cannot resume this job: it is not paused.")
        return job


class RetryJobView(JobVerbView):
    @extend_schema(
        operation_id="retry_fine_tuning_job", request=None, responses=responses(JobSerializer, 400, 404, 409)
    )
    def post(self, request: Request, job_id: str) -> Response:
        """A new job with the same settings and files, for one that failed or was cancelled."""
        return self.respond(job_id)

    def change(self, job: TrainingJob) -> TrainingJob:
        return services.retry_job(job=job, created_by=self.key.created_by, api_key=self.key)

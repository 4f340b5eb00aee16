"""/v1/deployments: checkpoints that are served, and how they compare. An extension of OpenAI's API."""

import json
from typing import Any

from django.db.models import F
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import ApiKey, Project, Scope
from apps.accounts.tenancy import TenantQuerySet
from apps.core.api.bodies import validated_body
from apps.core.api.errors import ApiError
from apps.core.api.idempotency import once
from apps.core.api.pagination import list_object, page, page_query, validated_query
from apps.core.api.schema import ConstantField, UnixField, list_of, responses
from apps.core.api.views import find
from apps.core.errors import Conflict
from apps.datasets.api.runs import models_named
from apps.datasets.models import Dataset, Member, Split
from apps.datasets.runs import judging
from apps.events import sse
from apps.training.deployments import evaluation, judged
from apps.training.deployments import services as deployments
from apps.training.models import Checkpoint, Deployment, TrainingJob

VERDICTS = ("learned", "changed", "unchanged")


class NewDeploymentSerializer(serializers.Serializer[Any]):
    checkpoint = serializers.CharField(
        max_length=64, required=False, allow_null=True, help_text="A checkpoint's id; the job's result, if left out."
    )
    kind = serializers.ChoiceField(Deployment.Kind.values, default=Deployment.Kind.ADAPTER)
    name = serializers.CharField(
        max_length=deployments.NAME_CHARACTERS, required=False, allow_null=True, help_text="The job's `ft:` name."
    )

    judge = serializers.CharField(
        max_length=200, required=False, allow_null=True,
        help_text="A model that also scores what base and tuned model answer to the questions kept apart.",
    )  # fmt: skip
    rubric = serializers.CharField(
        max_length=judging.RUBRIC_CHARACTERS, required=False, allow_null=True, trim_whitespace=False,
        help_text="The judge's: what makes an answer good, in words. Left out: that it says what the reference says.",
    )  # fmt: skip


class NewEvaluationSerializer(serializers.Serializer[Any]):
    dataset = serializers.CharField(
        max_length=50, required=False, allow_null=True, help_text="A dataset's id; the job's own, if left out."
    )
    split = serializers.CharField(max_length=50, required=False, allow_null=True, help_text="A split's id.")
    part = serializers.ChoiceField(Member.Part.values, default=evaluation.PART, help_text="Of the split.")


class FiguresOfModelSerializer(serializers.Serializer[Any]):
    exact = serializers.IntegerField(help_text="Answers that are the reference to the letter.")
    matched = serializers.IntegerField(
        help_text="Or but for case, spacing and the signs around; or that call its tools."
    )
    loss = serializers.FloatField(allow_null=True, help_text="Of the references' tokens, the mean over questions.")
    unended = serializers.IntegerField(help_text="Answers that did not end.")
    judged = serializers.FloatField(
        required=False, allow_null=True, help_text="The mean of the judge's scores, 1 to 5; null: there are none."
    )
    scored = serializers.IntegerField(
        required=False, help_text="Questions whose answers both have a score: of these the mean is."
    )


class FiguresSerializer(serializers.Serializer[Any]):
    asked = serializers.IntegerField()
    base = FiguresOfModelSerializer()
    tuned = FiguresOfModelSerializer()


class LeftOutSerializer(serializers.Serializer[Any]):
    """A row that the check leaves out."""

    file = serializers.CharField(allow_null=True)
    line = serializers.IntegerField(allow_null=True)
    reason = serializers.CharField()


class DeploymentSerializer(serializers.Serializer[Deployment]):
    id = serializers.CharField(source="uid")
    object = ConstantField("deployment")
    created_at = UnixField()
    ended_at = UnixField(allow_null=True)
    name = serializers.CharField(help_text="What requests call the model.")
    kind = serializers.ChoiceField(Deployment.Kind.values)
    status = serializers.ChoiceField(Deployment.Status.values)
    message = serializers.CharField(allow_blank=True)
    fine_tuning_job_id = serializers.CharField(source="checkpoint.job.uid")
    checkpoint_id = serializers.CharField(source="checkpoint.uid")
    step_number = serializers.IntegerField(source="checkpoint.step")
    judge = serializers.CharField(
        source="judge_name", allow_blank=True, help_text="Who scores the answers; empty: nobody was chosen."
    )
    rubric = serializers.CharField(allow_blank=True, help_text="The judge's.")
    verdict = serializers.SerializerMethodField(help_text="Null until it was compared.")
    unseen = serializers.SerializerMethodField(help_text="Of the questions that were not trained on; null: none were.")
    trained = serializers.SerializerMethodField(
        help_text="Of the questions that were trained on; null: none were asked."
    )
    left_out = serializers.SerializerMethodField(help_text="The first hundred rows that could not be asked.")
    left_out_count = serializers.SerializerMethodField(help_text="How many they are in all.")
    parity = serializers.DictField(help_text="The prompts that were asked, and what each model said.")

    @extend_schema_field(serializers.ChoiceField(VERDICTS, allow_null=True))
    def get_verdict(self, deployment: Deployment) -> str | None:
        return deployment.parity.get("verdict")

    @extend_schema_field(LeftOutSerializer(many=True))
    def get_left_out(self, deployment: Deployment) -> list[dict[str, Any]]:
        return list(deployment.parity.get("left_out", ()))

    def get_left_out_count(self, deployment: Deployment) -> int:
        return int(deployment.parity.get("left_out_count", 0))

    @extend_schema_field(FiguresSerializer(allow_null=True))
    def get_unseen(self, deployment: Deployment) -> dict[str, Any] | None:
        return deployment.parity.get("unseen")

    @extend_schema_field(FiguresSerializer(allow_null=True))
    def get_trained(self, deployment: Deployment) -> dict[str, Any] | None:
        return deployment.parity.get("trained")


class ScoreSerializer(serializers.Serializer[evaluation.Score]):
    model = serializers.CharField()
    answered = serializers.IntegerField()
    failed = serializers.IntegerField()
    references = serializers.IntegerField(help_text="Of the answered examples, those with an expected answer.")
    exact = serializers.IntegerField(help_text="Answers that are the expected one, but for case and spacing.")
    judged = serializers.FloatField(allow_null=True, help_text="The mean of the judge's scores, 1 to 5.")


class EvaluationSerializer(serializers.Serializer[evaluation.Result]):
    """The run has the answers: `/v1/runs/{run}`."""

    id = serializers.CharField(source="evaluation.run.uid", help_text="The run's.")
    object = ConstantField("deployment.evaluation")
    created_at = UnixField(source="evaluation.created_at")
    deployment = serializers.CharField(source="evaluation.deployment.uid")
    run = serializers.CharField(source="evaluation.run.uid")
    examples = serializers.IntegerField(source="evaluation.run.items_total")
    scores = ScoreSerializer(many=True, help_text="The base's and the tuned model's, so far.")


class DeploymentQuery(page_query(default=20, maximum=100)):  # type: ignore[misc]
    status = serializers.ChoiceField(Deployment.Status.values, required=False)


EvaluationQuery = page_query(default=20, maximum=100)
DEPLOYMENT = responses(DeploymentSerializer, 400, 404, 409, 413, 415)


def _deployments(project: Project) -> TenantQuerySet[Deployment]:
    return Deployment.objects.of(project).select_related("project", "checkpoint__job__base", "checkpoint__job__export")


def _shape(deployment: Deployment) -> dict[str, Any]:
    return dict(DeploymentSerializer(_deployments(deployment.project).get(pk=deployment.pk)).data)


class DeployView(ProjectView):
    required_scopes = {"POST": Scope.TRAINING_WRITE}

    @extend_schema(operation_id="deploy_fine_tuning_job", request=NewDeploymentSerializer, responses=DEPLOYMENT)
    def post(self, request: Request, job_id: str) -> Response:
        """Serve what a job learned, once its answers were compared with the base model's."""
        values = validated_body(NewDeploymentSerializer, request)
        job = find(TrainingJob.objects.of(self.project), job_id, "fine_tuning_job")
        return once(
            request,
            owner=self.project.uid,
            fingerprint=json.dumps(values, sort_keys=True),
            run=lambda: _deploy(self.key, job, values),
        )


def _deploy(key: ApiKey, job: TrainingJob, values: dict[str, Any]) -> dict[str, Any]:
    judges = models_named([values["judge"]], key, "judge") if values.get("judge") else [None]
    deployment = deployments.deploy(
        checkpoint=_checkpoint(job, values.get("checkpoint")),
        kind=values["kind"],
        name=values.get("name") or "",
        judge=judged.chosen(judges[0], values.get("rubric") or "", key),
        created_by=key.created_by,
    )
    return _shape(deployment)


def _checkpoint(job: TrainingJob, uid: str | None) -> Checkpoint:
    rows = job.checkpoints.select_related("job__project", "job__base")
    if uid is None:
        result = rows.filter(best=True).first()
        if result is None:
            raise Conflict(f"The job is {job.status} and has no result yet: name one of its checkpoints, or wait.")
        return result
    checkpoint = rows.filter(uid=uid).first()
    if checkpoint is None:
        raise ApiError(400, f"No such checkpoint of this job: {uid}", "checkpoint_not_found", "checkpoint")
    return checkpoint


class DeploymentsView(ProjectView):
    required_scopes = {"GET": Scope.TRAINING_READ}

    @extend_schema(
        operation_id="list_deployments",
        parameters=[DeploymentQuery],
        responses=responses(list_of(DeploymentSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        query = validated_query(DeploymentQuery, request)
        rows = _deployments(self.project)
        rows = rows.filter(status=query["status"]) if "status" in query else rows
        found, has_more = page(rows, query)
        return Response(list_object(DeploymentSerializer, found, has_more=has_more))


class OneDeploymentView(ProjectView):
    def deployment(self, uid: str) -> Deployment:
        return find(_deployments(self.project), uid, "deployment")


class DeploymentView(OneDeploymentView):
    required_scopes = {"GET": Scope.TRAINING_READ}

    @extend_schema(operation_id="retrieve_deployment", responses=responses(DeploymentSerializer, 404))
    def get(self, request: Request, deployment_id: str) -> Response:
        return Response(DeploymentSerializer(self.deployment(deployment_id)).data)


class DeploymentProgressView(OneDeploymentView):
    required_scopes = {"GET": Scope.TRAINING_READ}

    @extend_schema(
        operation_id="stream_deployment",
        summary="Watch a deployment",
        description="Server-sent events: `progress` after each change, then one `done`.",
        responses=responses(OpenApiTypes.STR, 404) | {(200, "text/event-stream"): OpenApiTypes.STR},
    )
    def get(self, request: Request, deployment_id: str) -> StreamingHttpResponse:
        return sse.stream(deployments.TOPIC, self.deployment(deployment_id).uid, self.key)


class AcceptView(OneDeploymentView):
    required_scopes = {"POST": Scope.TRAINING_WRITE}

    @extend_schema(
        operation_id="accept_deployment", request=None, responses=responses(DeploymentSerializer, 400, 404, 409)
    )
    def post(self, request: Request, deployment_id: str) -> Response:
        """Serve one that is `unproven`: it changed, but not as taught, and somebody has looked at its answers."""
        deployment = self.deployment(deployment_id)
        if not deployments.accept(deployment=deployment, accepted_by=self.key.created_by):
            raise Conflict(f"The deployment is {deployment.status}: there is nothing to accept.")
        return Response(_shape(deployment))


class UndeployView(OneDeploymentView):
    required_scopes = {"POST": Scope.TRAINING_WRITE}

    @extend_schema(operation_id="undeploy", request=None, responses=responses(DeploymentSerializer, 400, 404, 409))
    def post(self, request: Request, deployment_id: str) -> Response:
        """Serve it no more, or stop what goes on. What it answered stays."""
        deployment = self.deployment(deployment_id)
        if not deployments.undeploy(deployment=deployment):
            raise Conflict(f"The deployment is {deployment.status}: there is nothing to take back.")
        return Response(_shape(deployment))


class RollbackView(OneDeploymentView):
    required_scopes = {"POST": Scope.TRAINING_WRITE}

    @extend_schema(
        operation_id="roll_back_deployment", request=None, responses=responses(DeploymentSerializer, 400, 404, 409)
    )
    def post(self, request: Request, deployment_id: str) -> Response:
        """Serve the one that was served before it under the same name, which is returned."""
        return Response(_shape(deployments.roll_back(deployment=self.deployment(deployment_id))))


class EvaluateView(OneDeploymentView):
    required_scopes = {"POST": Scope.TRAINING_WRITE}

    @extend_schema(
        operation_id="evaluate_deployment",
        request=NewEvaluationSerializer,
        responses=responses(EvaluationSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request, deployment_id: str) -> Response:
        """Have the base and the tuned model answer the same examples."""
        values, deployment = validated_body(NewEvaluationSerializer, request), self.deployment(deployment_id)
        return once(
            request,
            owner=self.project.uid,
            fingerprint=json.dumps(values, sort_keys=True),
            run=lambda: _evaluate(self.key, deployment, values),
        )


def _evaluate(key: ApiKey, deployment: Deployment, values: dict[str, Any]) -> dict[str, Any]:
    datasets = Dataset.objects.of(key.project)
    splits = Split.objects.filter(version__dataset__in=datasets).select_related("version__dataset")
    made = evaluation.evaluate(
        deployment=deployment,
        dataset=_named(datasets, values.get("dataset"), "dataset"),
        split=_named(splits, values.get("split"), "split"),
        part=values["part"],
        created_by=key.created_by,
    )
    (result,) = evaluation.results([made])
    return dict(EvaluationSerializer(result).data)


def _named(rows: Any, uid: str | None, noun: str) -> Any:
    """The row of this id, None where none is named. Raises `ApiError`."""
    row = rows.filter(uid=uid).first() if uid else None
    if uid and row is None:
        raise ApiError(400, f"No such {noun}: {uid}", f"{noun}_not_found", noun)
    return row


class EvaluationsView(OneDeploymentView):
    required_scopes = {"GET": Scope.TRAINING_READ}

    @extend_schema(
        operation_id="list_deployment_evaluations",
        parameters=[EvaluationQuery],
        responses=responses(list_of(EvaluationSerializer), 400, 404),
    )
    def get(self, request: Request, deployment_id: str) -> Response:
        """How base and tuned model did on the same examples, each time that they were asked."""
        query = validated_query(EvaluationQuery, request)
        rows = self.deployment(deployment_id).evaluations.select_related("deployment", "run")
        found, has_more = page(rows.annotate(uid=F("run__uid")), query)
        return Response(list_object(EvaluationSerializer, evaluation.results(found), has_more=has_more))

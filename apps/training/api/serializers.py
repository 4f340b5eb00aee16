"""OpenAI's fine-tuning job, its events and checkpoints, key by key: types of the SDK, `openai.types.fine_tuning`."""

import json
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core.api.pagination import page_query
from apps.core.api.schema import ConstantField, UnixField
from apps.training.api.hyperparameters import (
    METHODS,
    NAMES,
    PREFERENCES,
    DpoHyperparametersSerializer,
    HyperparametersSerializer,
    KtoHyperparametersSerializer,
    hyperparameters_of,
)
from apps.training.models import Checkpoint, JobEvent, Metric, TrainingJob
from apps.training.options import FIELDS, parse
from apps.training.progress import eta
from apps.training.results import REWARD_COLUMNS

SHOWN = {TrainingJob.Status.PAUSED: TrainingJob.Status.QUEUED}
"""OpenAI knows no paused job: it is shown as one that waits, with `paused` beside."""
STATUSES = [status for status in TrainingJob.Status.values if status not in SHOWN]
OPENAIS = ("supervised", "dpo", "reinforcement")
"""Methods that OpenAI's API has, which are named whatever the type is."""
MAX_SEED = 2_147_483_647


class SupervisedSerializer(serializers.Serializer[Any]):
    hyperparameters = HyperparametersSerializer(required=False)


class DpoSerializer(serializers.Serializer[Any]):
    hyperparameters = DpoHyperparametersSerializer(required=False)


class KtoSerializer(serializers.Serializer[Any]):
    hyperparameters = KtoHyperparametersSerializer(required=False)


class MethodSerializer(serializers.Serializer[Any]):
    type = serializers.ChoiceField([*METHODS, "reinforcement"])
    supervised = SupervisedSerializer(required=False, allow_null=True)
    dpo = DpoSerializer(required=False, allow_null=True)
    kto = KtoSerializer(required=False, allow_null=True, help_text="Thumbs up and down. Not in OpenAI's API.")
    reinforcement = serializers.DictField(required=False, allow_null=True, help_text="Not offered.")


class NewJobSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=200)
    training_file = serializers.CharField(max_length=64, help_text="A file's id, its purpose 'fine-tune'.")
    validation_file = serializers.CharField(max_length=64, required=False, allow_null=True)
    suffix = serializers.CharField(max_length=64, required=False, allow_null=True)
    seed = serializers.IntegerField(min_value=0, max_value=MAX_SEED, required=False, allow_null=True)
    method = MethodSerializer(required=False, allow_null=True)
    hyperparameters = HyperparametersSerializer(required=False, allow_null=True, help_text="Outdated: use `method`.")
    integrations = serializers.ListField(
        child=serializers.DictField(), required=False, allow_null=True, help_text="None is offered."
    )
    metadata = serializers.DictField(
        child=serializers.CharField(max_length=512, allow_blank=True, trim_whitespace=False),
        required=False, allow_null=True, help_text="Up to 16 pairs.",
    )  # fmt: skip
    technique = serializers.ChoiceField(
        TrainingJob.Technique.values, default=TrainingJob.Technique.LORA, help_text="Not in OpenAI's API."
    )
    options = serializers.DictField(
        required=False, default=dict, help_text=f"Count more than hyperparameters: {', '.join(FIELDS)}. Not OpenAI's."
    )

    def validate_options(self, value: dict[str, Any]) -> dict[str, Any]:
        """What is no text cannot be told back either."""
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise serializers.ValidationError("It holds broken Unicode.") from error
        return value


class JobErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    param = serializers.CharField(allow_null=True)


class FileErrorSerializer(serializers.Serializer[Any]):
    """An extension: a bad line of a file."""

    file = serializers.CharField()
    line = serializers.IntegerField(allow_null=True)
    code = serializers.CharField()
    message = serializers.CharField()


class JobMethodSerializer(serializers.Serializer[Any]):
    type = serializers.ChoiceField(list(METHODS))
    supervised = SupervisedSerializer(allow_null=True)
    dpo = DpoSerializer(allow_null=True)
    kto = KtoSerializer(required=False, help_text="There where it is the type. Not in OpenAI's API.")
    reinforcement = ConstantField(None)


class PlanSerializer(serializers.Serializer[Any]):
    """An extension: what was chosen for the job, and why."""

    steps = serializers.IntegerField(help_text="Of the optimizer, as far as is known before it trains.")
    reason = serializers.CharField()
    warning = serializers.CharField(allow_blank=True, help_text="Why it may not learn, with the cure; empty: nothing.")
    held_out = serializers.IntegerField(help_text="Rows that are not learned: a deployment is asked them.")


class JobSerializer(serializers.Serializer[TrainingJob]):
    """A job, its project and result file selected with it. One that runs costs a query."""

    id = serializers.CharField(source="uid")
    object = ConstantField("fine_tuning.job")
    created_at = UnixField()
    finished_at = UnixField(source="ended_at", allow_null=True)
    model = serializers.CharField(source="base_name")
    fine_tuned_model = serializers.SerializerMethodField()
    organization_id = serializers.CharField(source="project.uid")
    result_files = serializers.SerializerMethodField()
    status = serializers.SerializerMethodField()
    trained_tokens = serializers.SerializerMethodField()
    training_file = serializers.CharField(source="training_file_uid")
    validation_file = serializers.SerializerMethodField()
    hyperparameters = serializers.SerializerMethodField()
    seed = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    estimated_finish = serializers.SerializerMethodField()
    integrations = serializers.SerializerMethodField()
    method = serializers.SerializerMethodField()
    metadata = serializers.DictField(child=serializers.CharField(), allow_null=True)
    paused = serializers.SerializerMethodField(help_text="Not in OpenAI's API, as all that follows.")
    technique = serializers.CharField()
    options = serializers.DictField(help_text="What was set, over what fits the model and, once read, its rows.")
    plan = serializers.SerializerMethodField(
        help_text="Why the options are as they are; null until its files are read."
    )
    step = serializers.IntegerField()
    steps = serializers.IntegerField(help_text="In all; 0: not known yet.")
    message = serializers.CharField(allow_blank=True)
    file_errors = serializers.SerializerMethodField()
    bad_rows = serializers.IntegerField(help_text="Lines of its files that cannot be used, in all.")
    errors_file_id = serializers.CharField(
        source="errors_file.uid", default=None, allow_null=True,
        help_text="A file with all of these, as `file_errors` has the first.",
    )  # fmt: skip
    left_out = serializers.IntegerField(help_text="Rows of its files of which nothing is learned.")
    left_out_file_id = serializers.CharField(
        source="left_out_file.uid", default=None, allow_null=True,
        help_text="A file with all of these: the user's file and line, what the row was for, and the reason.",
    )  # fmt: skip
    estimate = serializers.DictField(help_text="Bytes of the device's memory, by part.")
    retry_of = serializers.CharField(source="retry_of.uid", default=None, allow_null=True)

    def get_fine_tuned_model(self, job: TrainingJob) -> str | None:
        return job.model_name if job.status == job.Status.SUCCEEDED else None

    def get_result_files(self, job: TrainingJob) -> list[str]:
        return [job.result_file.uid] if job.result_file else []

    @extend_schema_field(serializers.ChoiceField(STATUSES))
    def get_status(self, job: TrainingJob) -> str:
        return str(SHOWN.get(TrainingJob.Status(job.status), job.status))

    def get_trained_tokens(self, job: TrainingJob) -> int | None:
        return job.trained_tokens if job.status in job.ENDED else None

    def get_validation_file(self, job: TrainingJob) -> str | None:
        return job.validation_file_uid or None

    @extend_schema_field(HyperparametersSerializer)
    def get_hyperparameters(self, job: TrainingJob) -> dict[str, Any]:
        found = hyperparameters_of(job)
        return {name: value for name, value in found.items() if name not in PREFERENCES}

    def get_seed(self, job: TrainingJob) -> int:
        return parse(job.options).seed

    @extend_schema_field(JobErrorSerializer(allow_null=True))
    def get_error(self, job: TrainingJob) -> dict[str, Any] | None:
        if job.status != job.Status.FAILED:
            return None
        return {"code": job.error_code or "server_error", "message": job.message, "param": job.error_param or None}

    def get_estimated_finish(self, job: TrainingJob) -> int | None:
        finish = eta(job) if job.status == job.Status.RUNNING else None
        return int(finish.timestamp()) if finish else None

    @extend_schema_field(serializers.ListField(child=serializers.DictField()))
    def get_integrations(self, job: TrainingJob) -> list[Any]:
        return []

    @extend_schema_field(JobMethodSerializer)
    def get_method(self, job: TrainingJob) -> dict[str, Any]:
        none = dict.fromkeys(OPENAIS)
        kind = NAMES[TrainingJob.Method(job.method)]
        return {"type": kind, **none, kind: {"hyperparameters": hyperparameters_of(job)}}

    def get_paused(self, job: TrainingJob) -> bool:
        """Or about to be."""
        return job.status == job.Status.PAUSED or (job.status in job.OPEN and job.pause_requested_at is not None)

    @extend_schema_field(PlanSerializer(allow_null=True))
    def get_plan(self, job: TrainingJob) -> dict[str, Any] | None:
        return job.plan or None

    @extend_schema_field(FileErrorSerializer(many=True))
    def get_file_errors(self, job: TrainingJob) -> list[dict[str, Any]]:
        """Lines that cannot be used, the first hundred."""
        return job.errors or []


class JobEventSerializer(serializers.Serializer[JobEvent]):
    id = serializers.CharField(source="uid")
    object = ConstantField("fine_tuning.job.event")
    created_at = UnixField()
    level = serializers.ChoiceField(JobEvent.Level.values)
    message = serializers.CharField()
    type = serializers.ChoiceField(["message", "metrics"])
    data = serializers.DictField()  # type: ignore[assignment] # OpenAI's word


class CheckpointMetricsSerializer(serializers.Serializer[Any]):
    """What was measured at the checkpoint's step. Validation takes all validation rows, so "full" is the same."""

    step = serializers.IntegerField()
    train_loss = serializers.FloatField(source="loss", allow_null=True)
    train_mean_token_accuracy = serializers.FloatField(source="token_accuracy", allow_null=True)
    valid_loss = serializers.FloatField(allow_null=True)
    valid_mean_token_accuracy = serializers.FloatField(source="valid_token_accuracy", allow_null=True)
    full_valid_loss = serializers.FloatField(source="valid_loss", allow_null=True)
    full_valid_mean_token_accuracy = serializers.FloatField(source="valid_token_accuracy", allow_null=True)
    rewards = serializers.DictField(
        child=serializers.FloatField(), required=False,
        help_text=f"There where preferences or thumbs were measured: {', '.join(REWARD_COLUMNS)}. Not in OpenAI's API.",
    )  # fmt: skip

    def to_representation(self, instance: Metric) -> dict[str, Any]:
        shape = super().to_representation(instance)
        found = {name: getattr(instance, field) for name, field in REWARD_COLUMNS.items()}
        rewards = {name: value for name, value in found.items() if value is not None}
        return {**shape, "rewards": rewards} if rewards else shape


class CheckpointSerializer(serializers.Serializer[Checkpoint]):
    """A checkpoint with its `measured` metric beside."""

    id = serializers.CharField(source="uid")
    object = ConstantField("fine_tuning.job.checkpoint")
    created_at = UnixField()
    fine_tuning_job_id = serializers.CharField(source="job.uid")
    fine_tuned_model_checkpoint = serializers.CharField(source="model_name")
    step_number = serializers.IntegerField(source="step")
    metrics = CheckpointMetricsSerializer(source="measured")
    best = serializers.BooleanField(help_text="It is the job's result. Not in OpenAI's API.")
    bytes = serializers.IntegerField(help_text="Not in OpenAI's API.")


class JobQuery(page_query(default=20, maximum=100)):  # type: ignore[misc]
    pass


class JobEventQuery(page_query(default=20, maximum=1000)):  # type: ignore[misc]
    pass


class CheckpointQuery(page_query(default=10, maximum=100)):  # type: ignore[misc]
    pass

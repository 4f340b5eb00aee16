from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from django.contrib.auth.models import User
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts.models import ApiKey, Project
from apps.accounts.tenancy import TenantQuerySet
from apps.core.ids import new_id
from apps.core.secrets import EncryptedTextField
from apps.models.admission.findings import notes, notes_of_adapter
from apps.models.engines.causes import without_paths


class ModelQuerySet(TenantQuerySet["Model"]):
    def usable_by(self, project: Project) -> Self:
        """The project's own models and those that belong to everybody, once their first prompt was answered."""
        return self.filter(Q(project=project) | Q(project=None), ready=True)


class Model(models.Model):
    """Weights in a folder, served under a name. An adapter (LoRA) is a model that rides on its base model's engine."""

    class Runner(models.TextChoices):
        GENERATE = "generate", "Generates text: chat, completions, responses"
        POOLING = "pooling", "Computes embeddings"

    name = models.CharField(max_length=200, unique=True)
    path = models.CharField(max_length=500, help_text="A folder in Hugging Face's layout, with safetensors.")
    source = models.CharField(max_length=200, blank=True, help_text="The hub's owner/name; empty for a local folder.")
    revision = models.CharField(max_length=40, blank=True, help_text="The hub's commit, or the manifest's digest.")
    bytes = models.BigIntegerField(default=0, help_text="On disk.")
    runner = models.CharField(max_length=10, choices=Runner, default=Runner.GENERATE)
    base = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="adapters",
        help_text="Set for a LoRA adapter: the model that it was trained on.",
    )  # fmt: skip
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, null=True, blank=True, help_text="Empty: every project may use it."
    )
    license = models.CharField(max_length=100, blank=True)
    owned_by = models.CharField(max_length=100, default="local")
    engine_settings: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, blank=True, help_text="How its engine is started; see apps.models.engines.settings."
    )
    findings: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, blank=True, editable=False,
        help_text="What its install found out; see apps.models.admission.findings.",
    )  # fmt: skip
    sample_prompts: models.JSONField[list[str], list[str]] = models.JSONField(default=list, blank=True)
    broken_until = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="The breaker is open: no engine of it is started before then."
    )
    problem = models.TextField(
        blank=True, editable=False, help_text="Why its base's engine does not serve an adapter; empty where it does."
    )
    ready = models.BooleanField(default=True, editable=False, help_text="Off while an install tries its engine.")
    created_at = models.DateTimeField(db_default=Now())

    objects = ModelQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def folder(self) -> Path:
        return Path(self.path)

    @property
    def engine_model(self) -> Model:
        """The model whose engine answers for this one."""
        return self.base or self

    @property
    def endpoints(self) -> frozenset[str]:
        """The routes that vLLM offers for it."""
        if self.runner == self.Runner.POOLING:
            return frozenset({"/v1/embeddings"})
        if self.chat_problem:
            return frozenset({"/v1/completions"})
        return frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses"})

    @property
    def chat_problem(self) -> str:
        """Why it answers no chats, as its install found out; empty where it does."""
        model = self.engine_model
        chat = model.findings.get("chat")
        if not chat or chat["offered"] or model.engine_settings.get("chat_template"):
            return ""
        return str(chat["problem"])

    @property
    def tokens_beyond(self) -> dict[str, int]:
        """Text -> id of those that its tokenizer knows and the model does not, as its install found out."""
        found: dict[str, int] = self.engine_model.findings.get("tokens_beyond") or {}
        return found

    @property
    def notes(self) -> list[str]:
        """What its users have to know: defaults that change answers, conversations that it does not take."""
        model = self.engine_model
        return (notes_of_adapter(self.findings) if self.base_id else []) + notes(model.findings, model.engine_settings)


class HubToken(models.Model):
    """A project's token for gated repositories of the hub, encrypted at rest."""

    project = models.OneToOneField(Project, on_delete=models.CASCADE, null=True, blank=True, related_name="hub_token")
    token = EncryptedTextField()
    hint = models.CharField(max_length=12, editable=False)  # its last characters: what people recognise it by
    created_at = models.DateTimeField(db_default=Now())

    objects = TenantQuerySet["HubToken"].as_manager()


def _install_id() -> str:
    return new_id("install_")


class Install(models.Model):
    """One try to make a model from a repository or a folder ready to be served, step by step."""

    class Status(models.TextChoices):
        QUEUED = "queued", "Waits for a worker"
        RESOLVING = "resolving", "Looks up the commit, access, licence and sizes"
        DOWNLOADING = "downloading", "Fetches the files"
        CHECKING = "checking", "Looks at every file for what could run code"
        BOOTING = "booting", "Waits for its engine to answer a first prompt"
        READY = "ready", "Can be used"
        REFUSED = "refused", "The repository, the licence or the machine does not allow it"
        FAILED = "failed", "Something went wrong; it can be tried again, and goes on where it was"
        CANCELLED = "cancelled", "Somebody cancelled it"

    ENDED = (Status.READY, Status.REFUSED, Status.FAILED, Status.CANCELLED)

    uid = models.CharField(max_length=50, unique=True, default=_install_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, null=True, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    source = models.CharField(max_length=500, help_text="A hub's URL, owner/name[@revision], or a local folder.")
    name = models.CharField(max_length=200, help_text="What requests will call the model.")
    base = models.ForeignKey(
        Model, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", help_text="For a LoRA adapter."
    )
    engine_settings: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    status = models.CharField(max_length=12, choices=Status, default=Status.QUEUED)
    message = models.TextField(blank=True, help_text="A sentence about the step; for a refusal, what to do.")
    revision = models.CharField(max_length=40, blank=True)
    license = models.CharField(max_length=100, blank=True)
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(default=0)
    fit: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    refusals: models.JSONField[list[dict[str, str]], list[dict[str, str]]] = models.JSONField(default=list, blank=True)
    model = models.ForeignKey(Model, on_delete=models.SET_NULL, null=True, blank=True, related_name="installs")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["Install"].as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.source} as {self.name}"

    def advance(self, to: Status, **changes: Any) -> bool:
        """Compare-and-set from the status that this object has. False when somebody else was faster."""
        if to in self.ENDED:
            changes["ended_at"] = Now()
        won = Install.objects.filter(pk=self.pk, status=self.status).update(status=to, **changes)
        if won:
            self.refresh_from_db()
        return bool(won)


class Device(models.Model):
    """A GPU slot that a worker showed itself on: one GPU, several joined, or the CPU of a host."""

    slot = models.CharField(max_length=60, unique=True)  # "gpu:<host>:<devices>"
    name = models.CharField(max_length=100, blank=True, help_text="As the driver calls it.")
    memory_bytes = models.BigIntegerField(default=0)
    can_sleep = models.BooleanField(default=False)
    seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["slot"]

    def __str__(self) -> str:
        return self.name or self.slot


class Engine(models.Model):
    """A model's engine on a device, for people and the gateway to see. The slot's lease says who may start it."""

    class State(models.TextChoices):
        STOPPED = "stopped", "Does not run; it is started when somebody asks for the model"
        STARTING = "starting", "Loads the model's weights"
        READY = "ready", "Waits for requests, warm"
        BUSY = "busy", "Answers requests of a batch"
        ASLEEP = "asleep", "Its weights wait in the machine's memory; it wakes in seconds"
        DRAINING = "draining", "Finishes what it began, then makes room for another model"
        FAILED = "failed", "Did not start, or died; it is tried again"

    SERVING = (State.READY, State.BUSY)

    class Order(models.TextChoices):
        STOP = "stop", "Stop"
        SLEEP = "sleep", "Put to sleep"

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="engines")
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="engines")
    state = models.CharField(max_length=10, choices=State, default=State.STOPPED)
    message = models.TextField(blank=True)
    socket = models.CharField(max_length=107, blank=True, help_text="Where it listens on its host, while it serves.")
    served: models.JSONField[list[str], list[str]] = models.JSONField(
        default=list, editable=False, help_text="The names it answers to: the model's, and its loaded adapters'."
    )
    order = models.CharField(
        max_length=5, choices=Order, blank=True, help_text="What an operator asked of it; the worker clears it."
    )
    since = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["device", "model"]
        constraints = [models.UniqueConstraint(fields=["device", "model"], name="engine_once_per_device")]

    def __str__(self) -> str:
        return f"{self.model} on {self.device}"


class EngineDeath(models.Model):
    """An engine that did not start, or died, with what it printed last."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="deaths")
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="+")
    explained = models.BooleanField(default=False, help_text="A cause is known: those do not open the breaker.")
    message = models.TextField()
    log = models.TextField(blank=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["model", "-at"], name="death_model_at")]

    @property
    def headline(self) -> str:
        """The sentence for users of the model; the log's lines, which are for operators, follow it."""
        return without_paths(self.message.partition("\n")[0])


class Timing(models.Model):
    """What a verb took on a device, learned: the costs that the plan weighs."""

    class Verb(models.TextChoices):
        START = "start", "Cold start, until it answers"
        WAKE = "wake", "Wake-up, canary included"
        SLEEP = "sleep", "Falling asleep"
        STOP = "stop", "Stop, until the memory is free"
        REQUEST = "request", "One request of a batch, with the window full"

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="+")
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="timings")
    verb = models.CharField(max_length=8, choices=Verb)
    seconds = models.FloatField()
    count = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["device", "model", "verb"], name="timing_once")]


class Demand(models.Model):
    """People who wait for a model's engine now. Whoever waits on their behalf renews it every second."""

    owner = models.CharField(max_length=200)
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="demands")
    waiting = models.PositiveIntegerField()
    since = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "model"], name="demand_once")]


class Usage(models.Model):
    """Interactive requests and tokens of a key and a model, a row a day."""

    day = models.DateField()
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="usage")
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, related_name="usage")
    model_name = models.CharField(max_length=200)
    requests = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)

    objects = TenantQuerySet["Usage"].as_manager()

    class Meta:
        ordering = ["-day", "model_name"]
        constraints = [
            models.UniqueConstraint(
                fields=["day", "project", "api_key", "model_name"], name="usage_once", nulls_distinct=False
            )
        ]


class ExampleSet(models.Model):
    """Prompts that were tried in the playground, kept with their answers."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="example_sets")
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=Now())

    objects = TenantQuerySet["ExampleSet"].as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="example_set_once")]

    def __str__(self) -> str:
        return self.name


class TriedPrompt(models.Model):
    """One prompt of a set, and what each model answered."""

    example_set = models.ForeignKey(ExampleSet, on_delete=models.CASCADE, related_name="prompts")
    messages: models.JSONField[list[dict[str, str]], list[dict[str, str]]] = models.JSONField()
    parameters: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict)
    answers: models.JSONField[dict[str, str], dict[str, str]] = models.JSONField(default=dict)  # model's name -> text
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["id"]


def _benchmark_id() -> str:
    return new_id("bench_")


class Benchmark(models.Model):
    """A sweep over numbers of requests in flight, measured from the engine on one device."""

    class Status(models.TextChoices):
        QUEUED = "queued", "Waits for its turn on a device"
        RUNNING = "running", "Measures"
        COMPLETED = "completed", "Every level was measured"
        FAILED = "failed", "It could not be measured to the end"
        CANCELLED = "cancelled", "Somebody cancelled it"

    ENDED = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)

    uid = models.CharField(max_length=50, unique=True, default=_benchmark_id, editable=False)
    project = models.ForeignKey(
        Project, on_delete=models.SET_NULL, null=True, blank=True, related_name="+",
        help_text="Whose key asked for it, and may cancel it; whoever may use the model sees it.",
    )  # fmt: skip
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="benchmarks")
    revision = models.CharField(max_length=40, blank=True)
    device = models.ForeignKey(Device, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    device_name = models.CharField(max_length=100, blank=True)
    engine_settings: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict)
    sweep: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        help_text="See apps.models.benchmarks.services."
    )
    levels: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField(default=list)
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    message = models.TextField(blank=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["Benchmark"].as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.model}, {self.created_at:%Y-%m-%d %H:%M}"


class RequestTables(models.Model):
    """What an engine's own request models accept, as a GPU worker read it. The one that was used last applies."""

    fingerprint = models.CharField(max_length=64, unique=True)  # of the installed vLLM
    version = models.CharField(max_length=50, blank=True)
    tables: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField()  # see apps.models.requests.tables
    used_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"vLLM {self.version}"

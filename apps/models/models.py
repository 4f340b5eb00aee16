from __future__ import annotations

from pathlib import Path
from typing import Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts.models import Project
from apps.accounts.tenancy import TenantQuerySet


class ModelQuerySet(TenantQuerySet["Model"]):
    def usable_by(self, project: Project) -> Self:
        """The project's own models and those that belong to everybody."""
        return self.filter(Q(project=project) | Q(project=None))


class Model(models.Model):
    """Weights in a folder, served under a name. An adapter (LoRA) is a model that rides on its base model's engine."""

    class Runner(models.TextChoices):
        GENERATE = "generate", "Generates text: chat, completions, responses"
        POOLING = "pooling", "Computes embeddings"

    name = models.CharField(max_length=200, unique=True)
    path = models.CharField(max_length=500, help_text="A folder in Hugging Face's layout, with safetensors.")
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
    max_model_len = models.PositiveIntegerField(
        null=True, blank=True, help_text="Context in tokens; empty: the model's own."
    )
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
        return frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses"})


class Engine(models.Model):
    """What runs on a slot now, for people to see. Who may start it is decided by the slot's lease alone."""

    class State(models.TextChoices):
        STOPPED = "stopped", "No engine runs on this slot"
        STARTING = "starting", "Loading the model's weights"
        READY = "ready", "Waits for requests, warm"
        BUSY = "busy", "Answers requests"
        FAILED = "failed", "Did not start, or died; it is tried again"

    slot = models.CharField(max_length=60, unique=True)  # "<host>:<devices>"
    model = models.ForeignKey(Model, on_delete=models.SET_NULL, null=True)
    state = models.CharField(max_length=10, choices=State, default=State.STOPPED)
    message = models.TextField(blank=True)
    since = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["slot"]

    def __str__(self) -> str:
        return self.slot

from __future__ import annotations

import hashlib
import secrets
from typing import Self

from django.contrib.auth.models import User
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from apps.accounts.tenancy import TenantQuerySet
from apps.core.ids import new_id


def _project_id() -> str:
    return new_id("proj_")


class ProjectQuerySet(models.QuerySet["Project"]):
    def visible_to(self, user: User) -> Self:
        """The projects whose member `user` is; every one for a superuser."""
        return self if user.is_superuser else self.filter(members=user)


class Project(models.Model):
    """A tenant: files, batches, models and keys belong to one, and its members see those and no others."""

    uid = models.CharField(max_length=50, unique=True, default=_project_id, editable=False)
    name = models.CharField(max_length=100, unique=True)
    members: models.ManyToManyField[User, Membership] = models.ManyToManyField(
        User, through="Membership", related_name="projects"
    )
    created_at = models.DateTimeField(db_default=Now())

    objects = ProjectQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    class Role(models.TextChoices):
        OWNER = "owner", "Owner: members, keys and everything below"
        CURATOR = "curator", "Curator: runs batches and curates answers"
        VIEWER = "viewer", "Viewer: looks, changes nothing"

    project = models.ForeignKey(Project, on_delete=models.CASCADE)
    user = models.ForeignKey(User, on_delete=models.CASCADE)
    role = models.CharField(max_length=10, choices=Role, default=Role.CURATOR)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user} in {self.project}"


class Scope(models.TextChoices):
    FILES_READ = "files.read", "Read files"
    FILES_WRITE = "files.write", "Upload and delete files"
    BATCHES_READ = "batches.read", "Read batches and their results"
    BATCHES_WRITE = "batches.write", "Create, cancel, pause and retry batches"
    MODELS_READ = "models.read", "List models"
    MODELS_WRITE = "models.write", "Install, measure and delete models"
    MODELS_USE = "models.use", "Ask models: chat, completions, responses, embeddings"
    DATASETS_READ = "datasets.read", "Read datasets, runs, answers and reviews"
    DATASETS_WRITE = "datasets.write", "Import, run, review and export datasets"
    TRAINING_READ = "training.read", "Read fine-tuning jobs, their curves and deployments"
    TRAINING_WRITE = "training.write", "Fine-tune models, deploy and withdraw them"


def all_scopes() -> list[str]:
    return list(Scope.values)


UNEXPIRED = models.Q(expires_at=None) | models.Q(expires_at__gt=Now())  # of API keys, by the database's clock


class ApiKeyQuerySet(TenantQuerySet["ApiKey"]):
    def live(self) -> Self:
        """Keys that open the door now: neither revoked nor expired."""
        return self.filter(UNEXPIRED, revoked_at=None)


class ApiKey(models.Model):
    """A 256-bit secret of a project. Only its SHA-256 is kept: a fast hash is right for a secret nobody can guess."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12, editable=False)  # what people recognise it by
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=30, choices=Scope), default=all_scopes)
    allowed_models = ArrayField(
        models.CharField(max_length=200),
        default=list,
        blank=True,
        help_text="Names; empty means every model.",
    )
    max_concurrent = models.PositiveIntegerField(
        null=True, blank=True, help_text="Interactive requests at a time; empty means no limit."
    )
    tokens_per_day = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Interactive tokens, prompts and answers, per UTC day; empty means no limit."
    )
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def set_new_secret(self) -> str:
        """Fill in prefix and digest for a new secret and return it: the only time that it can be seen."""
        secret = f"sk-{secrets.token_urlsafe(32)}"
        self.prefix, self.digest = secret[:10], self.digest_of(secret)
        return secret

    @staticmethod
    def digest_of(secret: str) -> str:
        return hashlib.sha256(secret.encode()).hexdigest()

    def allows_model(self, name: str) -> bool:
        return not self.allowed_models or name in self.allowed_models

from django.db import models
from django.db.models.functions import Now


class Lease(models.Model):
    """Who may work on something now. Only the database's clock is compared; see `apps.core.leases`."""

    key = models.CharField(max_length=100, primary_key=True)
    owner = models.CharField(max_length=200)
    epoch = models.BigIntegerField()  # the fencing token: a late owner's writes carry another
    expires_at = models.DateTimeField()
    process_groups = models.TextField(default="")  # what the next owner must reap first, one a line


class Attempt(models.Model):
    """How often work on a row was begun without coming to its end; see `apps.core.attempts`."""

    key = models.CharField(max_length=100, primary_key=True)  # of the row's lease
    attempts = models.PositiveSmallIntegerField()
    began = models.BooleanField()  # and has not told how it ended: it goes on, or its process died
    deaths = models.PositiveSmallIntegerField(default=0)  # of processes, one after the other
    error = models.TextField(default="")  # how the last one ended, in a few words
    next_at = models.DateTimeField()  # it is not tried before, by the database's clock
    at = models.DateTimeField(db_default=Now())


class IdempotencyKey(models.Model):
    """The answer given to a request that a client may send twice, kept for a day; or for minutes (`api.repeats`)."""

    scope = models.CharField(max_length=200)  # whose key it is, and for which route
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)  # SHA-256 of the request's content
    status = models.PositiveSmallIntegerField(null=True)  # null while the first request runs
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["scope", "key"], name="idempotency_key_once")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_key_created")]

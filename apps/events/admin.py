from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from apps.accounts.tenant_admin import TenantAdmin, VisibleFilter, moment
from apps.events.models import Event
from apps.events.services import replay

LABELS = {"delivered": "success", "waiting": "info", "retrying": "warning", "given up": "danger"}


@admin.register(Event)
class EventAdmin(TenantAdmin):
    """Read only: what happened cannot be edited, but it can be told again."""

    list_display = ("type", "subject", "state", "attempts", "project", moment("created_at", "Happened"))
    list_select_related = ("project",)
    list_filter = ("type", ("project", VisibleFilter))
    search_fields = ("uid", "data")
    actions = ("replay_selected",)
    fields = readonly_fields = (
        "uid", "type", "project", "data", "state", "attempts", "last_error",
        "created_at", "delivered_at", "next_attempt_at",
    )  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request)

    @display(description="Object")
    def subject(self, event: Event) -> str:
        return str(event.data.get("id", ""))

    @display(description="Delivery", label=LABELS)
    def state(self, event: Event) -> str:
        if event.delivered_at:
            return "delivered"
        if event.next_attempt_at is None:
            return "given up"
        return "retrying" if event.attempts else "waiting"

    @admin.action(description="Deliver again", permissions=["replay"])
    def replay_selected(self, request: HttpRequest, events: QuerySet[Event]) -> None:
        allowed = [event for event in events if self.may_change(request, event)]
        for event in allowed:
            replay(event=event)
        if allowed:
            messages.success(request, f"{len(allowed)} events are delivered again within seconds.")
        if refused := len(events) - len(allowed):
            messages.error(request, f"{refused} events belong to projects that you may only look at.")

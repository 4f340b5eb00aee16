from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin as UnfoldModelAdmin
from unfold.decorators import display

from apps.accounts.models import Project
from apps.accounts.tenant_admin import TenantAdmin, VisibleFilter, moment, signed_in
from apps.models.engines.orders import order_engine
from apps.models.models import Engine, EngineDeath

LABELS = {
    Engine.State.STOPPED: "default",
    Engine.State.STARTING: "warning",
    Engine.State.READY: "info",
    Engine.State.BUSY: "success",
    Engine.State.ASLEEP: "default",
    Engine.State.DRAINING: "warning",
    Engine.State.FAILED: "danger",
}


@admin.register(Engine)
class EngineAdmin(UnfoldModelAdmin):
    """The scheduler decides what runs where; an operator can stop an engine or put it to sleep."""

    list_display = ("model", "device", "shown_state", "sentence", moment("since", "Since"))
    list_select_related = ("device", "model")
    list_fullwidth = True
    fields = readonly_fields = ("device", "model", "shown_state", "sentence", "message", "since")
    actions = ("stop", "put_to_sleep")

    @display(description="State", label=LABELS)
    def shown_state(self, engine: Engine) -> tuple[str, str]:
        return engine.state, engine.state

    @display(description="What it does")
    def sentence(self, engine: Engine) -> str:
        return engine.get_state_display()

    @admin.action(description="Stop", permissions=["view"])
    def stop(self, request: HttpRequest, engines: QuerySet[Engine]) -> None:
        self._order(request, engines, Engine.Order.STOP)

    @admin.action(description="Put to sleep", permissions=["view"])
    def put_to_sleep(self, request: HttpRequest, engines: QuerySet[Engine]) -> None:
        self._order(request, engines, Engine.Order.SLEEP)

    def _order(self, request: HttpRequest, engines: QuerySet[Engine], order: Engine.Order) -> None:
        for engine in engines:
            if order_engine(engine=engine, order=order):
                messages.success(request, f"{engine}: {order.label.lower()} was ordered.")
            else:
                messages.warning(request, f"{engine} is {engine.state}: {engine.get_state_display()}.")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """It names every tenant's models."""
        return signed_in(request).is_superuser

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(EngineDeath)
class EngineDeathAdmin(TenantAdmin):
    """Engines that did not start, or died; the message and the log's end can be searched."""

    list_display = ("model", "device", "first_line", "explained", moment("at", "When"))
    list_select_related = ("device", "model")
    list_filter = (("model", VisibleFilter), "explained")
    search_fields = ("message", "log", "model__name")
    fields = readonly_fields = ("model", "device", "at", "explained", "message", "shown_log")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        user = signed_in(request)
        if user.is_superuser:
            return EngineDeath.objects.all()
        projects = Project.objects.visible_to(user)
        return EngineDeath.objects.filter(Q(model__project=None) | Q(model__project__in=projects))

    @display(description="What happened")
    def first_line(self, death: EngineDeath) -> str:
        return death.message.partition("\n")[0][:160]

    @display(description="The log's end")
    def shown_log(self, death: EngineDeath) -> str:
        return death.log

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

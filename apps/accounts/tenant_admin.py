"""What the admin pages of a project's objects inherit: strangers' objects do not exist, the role decides the rest.

A superuser may do everything. Any other staff user needs no Django permission: the membership is the permission.
"""

from collections.abc import Callable
from typing import Any

from django.contrib.admin import ShowFacets
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest
from django.template.defaultfilters import date
from django.utils.html import format_html
from unfold.admin import ModelAdmin as UnfoldModelAdmin
from unfold.contrib.filters.admin import RangeDateFilter, RelatedDropdownFilter
from unfold.decorators import display

from apps.accounts.models import Membership, Project

OWNERS = (Membership.Role.OWNER,)
CURATORS = (Membership.Role.OWNER, Membership.Role.CURATOR)


def signed_in(request: HttpRequest) -> User:
    """The user of a page that only opens for signed-in people."""
    assert isinstance(request.user, User)  # noqa: S101 - the admin's login wall stands before this
    return request.user


def moment(field: str, title: str) -> Callable[[Model], str]:
    """A column with a time that fits on one line, in UTC as everything else."""

    @display(description=title, ordering=field)
    def column(row: Model) -> str:
        value = getattr(row, field)
        if value is None:
            return "\N{EN DASH}"
        return format_html('<time title="{}">{}</time>', date(value, "c"), date(value, "j M Y, H:i"))

    column.__name__ = field
    return column


def projects_where(request: HttpRequest, roles: tuple[str, ...]) -> dict[int, Project]:
    """The user's projects where one of `roles` is theirs (all for a superuser), asked for once in a request."""
    cache: dict[tuple[str, ...], dict[int, Project]] = request.__dict__.setdefault("_projects_where", {})
    if roles not in cache:
        user = signed_in(request)
        found = Project.objects.all()
        if not user.is_superuser:
            found = found.filter(membership__user=user, membership__role__in=roles)
        cache[roles] = found.in_bulk()
    return cache[roles]


class TenantAdmin(UnfoldModelAdmin):
    """Rows with a `project`: every member may look, `roles` may change."""

    roles: tuple[str, ...] = CURATORS
    list_fullwidth = True
    list_per_page = 50
    list_filter_submit = True
    show_facets = ShowFacets.NEVER  # it would count every choice of every filter

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.visible_to(signed_in(request))  # type: ignore[attr-defined]  # every TenantQuerySet has it

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> Any:
        """Django would go to the index and say that the object is gone; to a stranger it never was."""
        raise Http404(f"No such {opts.verbose_name}.")

    def may_change(self, request: HttpRequest, obj: Any) -> bool:
        """Whether the user's role in the object's project allows changes."""
        return signed_in(request).is_superuser or obj.project_id in projects_where(request, self.roles)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_staff)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_staff)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return signed_in(request).is_superuser or bool(projects_where(request, self.roles))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_add_permission(request) if obj is None else self.may_change(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Choices are what the user sees on the other object's own page; projects, where the user may write."""
        if db_field.related_model is Project:
            kwargs["queryset"] = Project.objects.filter(pk__in=projects_where(request, self.roles))
        elif self.admin_site.is_registered(db_field.related_model):
            kwargs["queryset"] = self.admin_site.get_model_admin(db_field.related_model).get_queryset(request)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


class VisibleFilter(RelatedDropdownFilter):
    """A filter by a related object that offers only what the user may see."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: UnfoldModelAdmin) -> list[tuple[Any, str]]:
        related = model_admin.admin_site.get_model_admin(field.related_model)
        return [(row.pk, str(row)) for row in related.get_queryset(request)]


class DaysFilter(RangeDateFilter):
    """From one day to another, both included."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        days = {"gte": self.used_parameters.get(f"{self.field_path}_from")}
        days["lte"] = self.used_parameters.get(f"{self.field_path}_to")
        try:
            return queryset.filter(**{f"{self.field_path}__date__{how}": day for how, day in days.items() if day})
        except ValidationError:
            return None

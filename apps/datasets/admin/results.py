"""What a run's reviews say: which model wins, how ratings spread, who agrees with whom, how far everybody is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_GET, require_POST

from apps.accounts.models import Membership
from apps.accounts.tenant_admin import CURATORS, signed_in
from apps.core.errors import DomainError
from apps.datasets.admin.asked import run_of
from apps.datasets.models import Judge, Run
from apps.datasets.reviews import agreement, assignments, statistics
from apps.datasets.reviews.filters import Filters
from apps.datasets.reviews.statistics import Ratings, Thumbs, WinRate
from apps.models.admin.page import PagesAdmin

FOLDER = "../review"
WHICH = {
    "all": ("All examples", Filters()),
    "differs": ("Where answers differ", Filters(show="differs")),
    "open": ("What nobody has decided yet", Filters(reviewed="no")),
}
ABOUT = {"ratings": "Ratings", "thumbs": "Thumbs", "preferences": "Preferences", "stars": "Gold stars"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A win rate in percent of the bar's width."""

    label: str
    against: str
    rate: WinRate
    width: float
    low: float
    high: float
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A column's ratings: the share of each value in percent."""

    label: str
    ratings: Ratings
    thumbs: Thumbs
    shares: Sequence[tuple[int, int, float]]  # value, count, percent


class Results:
    """Its views, for an admin of runs. What takes long comes after the page."""

    def __init__(self, pages: PagesAdmin) -> None:
        self._pages = pages

    def urls(self) -> list[URLPattern]:
        def view(route: str, function: Any, name: str) -> URLPattern:
            shown = self._pages.admin_site.admin_view(function)
            return path(f"<int:pk>/results/{route}", shown, name=f"datasets_run_{name}")

        return [
            view("", require_GET(self.page), "results"),
            view("agreement/", require_GET(self.agreement), "results_agreement"),
            view("judges/", require_GET(self.judges), "results_judges"),
            view("progress/", require_GET(self.progress), "results_progress"),
            view("assign/", require_POST(self.assign), "assign"),
        ]

    def page(self, request: HttpRequest, pk: int) -> TemplateResponse:
        run = run_of(request, pk)
        blind = request.GET.get("blind") == "1"
        rates = statistics.win_rates(run, blind=blind)
        labels = dict(run.columns.values_list("position", "label"))
        context = {
            "run": run, "blind": blind, "title": f"Results of {run}",
            "standings": [_bar(each, labels) for each in rates.columns],
            "pairs": [_bar(each, labels) for each in rates.pairs],
            "spreads": [
                _spread(*each, labels) for each in zip(statistics.ratings(run), statistics.thumbs(run), strict=True)
            ],
            "may_change": self._pages.may_change(request, run),
            "reviewers": _reviewers(run), "which": [(name, label) for name, (label, _) in WHICH.items()],
        }  # fmt: skip
        return self._pages.page(request, f"{FOLDER}/results", str(context["title"]), context)

    def agreement(self, request: HttpRequest, pk: int) -> HttpResponse:
        run = run_of(request, pk)
        try:
            found = [(ABOUT[each.about], each) for each in agreement.agreement(run)]
        except DomainError as error:
            return _part(request, "agreement", {"wrong": error.message})
        return _part(request, "agreement", {"agreements": found})

    def judges(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The latest judge, which the matrix shows too."""
        run = run_of(request, pk)
        judge = Judge.objects.filter(run=run).order_by("-pk").first()
        if judge is None:
            return _part(request, "judges", {"run": run})
        try:
            found = agreement.judge_agreement(judge)
        except DomainError as error:
            return _part(request, "judges", {"wrong": error.message})
        most = max((max(row) for row in found.confusion), default=0) or 1
        table = [
            (rating, [(count, round(100 * count / most)) for count in row])
            for rating, row in enumerate(found.confusion, start=1)
        ]
        return _part(request, "judges", {"run": run, "judge": judge, "found": found, "table": table})

    def progress(self, request: HttpRequest, pk: int) -> HttpResponse:
        run = run_of(request, pk)
        rows = [(each, round(100 * each.done / each.assigned)) for each in assignments.progress(run)]
        return _part(request, "progress", {"rows": rows})

    def assign(self, request: HttpRequest, pk: int) -> HttpResponseRedirect:
        run = run_of(request, pk)
        if not self._pages.may_change(request, run):
            raise Http404("No such action.")
        try:
            number, names = self._assign(request, run)
            messages.success(request, f"{number:,} examples are assigned to {', '.join(names)}.")
        except DomainError as error:
            messages.error(request, error.message)
        return HttpResponseRedirect(reverse("admin:datasets_run_results", args=[run.pk]))

    def _assign(self, request: HttpRequest, run: Run) -> tuple[int, list[str]]:
        chosen = set(request.POST.getlist("reviewers"))
        reviewers = [user for user in _reviewers(run) if user.username in chosen]
        overlap = request.POST.get("overlap", "")
        which = request.POST.get("which", "")
        if not (overlap.isascii() and overlap.isdigit() and len(overlap) < 4):
            raise DomainError("Say how many reviewers each example should have: a whole number.", param="overlap")
        if which not in WHICH:
            raise DomainError(f"'which' is one of {', '.join(WHICH)}.", param="which")
        filters = WHICH[which][1].seen_by(signed_in(request))
        number = assignments.assign(run=run, reviewers=reviewers, filters=filters, overlap=int(overlap))
        return number, [user.username for user in reviewers]


def _reviewers(run: Run) -> Sequence[User]:
    """Who may decide in the run's project."""
    members = Membership.objects.filter(project=run.project_id, role__in=CURATORS)
    return list(User.objects.filter(pk__in=members.values("user"), is_active=True).order_by("username"))


def _part(request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
    return render(request, f"admin/datasets/review/results_{name}.html", context)


def _bar(rate: WinRate, labels: dict[int, str]) -> Bar:
    against = labels.get(rate.second, "?") if rate.second is not None else ""
    low, high = 100 * (rate.low or 0), 100 * (rate.high or 0)
    return Bar(
        label=labels.get(rate.first, "?"), against=against, rate=rate, width=round(100 * (rate.rate or 0), 1),
        low=round(low, 1), high=round(high, 1), sentence=_certain(rate, low, high),
    )  # fmt: skip


def _certain(rate: WinRate, low: float, high: float) -> str:
    if rate.rate is None:
        return "both were bad each time"
    if low > 50:
        return "better, beyond chance"
    return "worse, beyond chance" if high < 50 else "could be chance"


def _spread(ratings: Ratings, thumbs: Thumbs, labels: dict[int, str]) -> Spread:
    counts: Iterable[tuple[int, int]] = enumerate(ratings.distribution, start=1)
    shares = [(value, count, round(100 * count / (ratings.count or 1), 1)) for value, count in counts]
    return Spread(label=labels.get(ratings.column, "?"), ratings=ratings, thumbs=thumbs, shares=shares)

"""What reviews of a run add up to, and who should review what."""

from typing import Any

from django.contrib.auth.models import User
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import Membership, Project, Scope
from apps.core.api.bodies import validated_body
from apps.core.api.pagination import validated_query
from apps.core.api.schema import responses
from apps.core.api.views import find
from apps.core.errors import DomainError
from apps.datasets.api.result_serializers import (
    AgreementSerializer,
    JudgeFiguresSerializer,
    RatingsSerializer,
    ResultsQuery,
    ResultsSerializer,
    ThumbsSerializer,
    WinRateSerializer,
)
from apps.datasets.api.review_serializers import AssignmentsSerializer, NewAssignmentsSerializer, ProgressSerializer
from apps.datasets.models import Run
from apps.datasets.reviews import assignments
from apps.datasets.reviews.agreement import agreement, judge_agreement
from apps.datasets.reviews.filters import Filters
from apps.datasets.reviews.statistics import ratings, thumbs, win_rates

REVIEWERS = (Membership.Role.CURATOR, Membership.Role.OWNER)
JUDGES = 10  # the latest


class ResultsView(ProjectView):
    required_scopes: dict[str, str] = {"GET": Scope.DATASETS_READ}

    @extend_schema(
        operation_id="retrieve_run_results", parameters=[ResultsQuery], responses=responses(ResultsSerializer, 400, 404)
    )
    def get(self, request: Request, run_id: str) -> Response:
        """Win rates, ratings, agreement of reviewers and of judges. The agreement can take seconds."""
        run = find(Run.objects.of(self.project).select_related("dataset"), run_id, "run")
        rates = win_rates(run, blind=validated_query(ResultsQuery, request)["blind"])
        return Response(
            {
                "object": "run.results",
                "pairs": WinRateSerializer(rates.pairs, many=True).data,
                "columns": WinRateSerializer(rates.columns, many=True).data,
                "ratings": RatingsSerializer(ratings(run), many=True).data,
                "thumbs": ThumbsSerializer(thumbs(run), many=True).data,
                "agreement": AgreementSerializer(agreement(run), many=True).data,
                "judges": _judges(run),
                "reviewers": ProgressSerializer(assignments.progress(run), many=True).data,
            }
        )


def _judges(run: Run) -> list[dict[str, Any]]:
    return [
        {"judge": judge.uid, "model": judge.model_name, **JudgeFiguresSerializer(judge_agreement(judge)).data}
        for judge in run.judges.order_by("-pk")[:JUDGES]
    ]


class AssignmentsView(ProjectView):
    required_scopes: dict[str, str] = {"GET": Scope.DATASETS_READ, "POST": Scope.DATASETS_WRITE}

    @extend_schema(operation_id="list_assignments", responses=responses(AssignmentsSerializer, 404))
    def get(self, request: Request, run_id: str) -> Response:
        """How far each reviewer is with what is assigned to them."""
        return _shape(find(Run.objects.of(self.project), run_id, "run"), 0)

    @extend_schema(
        operation_id="create_assignments",
        request=NewAssignmentsSerializer,
        responses=responses(AssignmentsSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request, run_id: str) -> Response:
        """Deal the items that the filters leave, evenly. Sent twice, it changes nothing more."""
        run = find(Run.objects.of(self.project).select_related("dataset"), run_id, "run")
        values = validated_body(NewAssignmentsSerializer, request)
        filters = Filters.parse({name: str(value) for name, value in values.get("filters", {}).items()})
        items = assignments.assign(
            run=run, reviewers=_reviewers(self.project, values["reviewers"]),
            filters=filters.seen_by(self.key.created_by), overlap=values.get("overlap"),
        )  # fmt: skip
        return _shape(run, items)


def _shape(run: Run, items: int) -> Response:
    progress = ProgressSerializer(assignments.progress(run), many=True).data
    return Response({"object": "run.assignments", "items": items, "reviewers": progress})


def _reviewers(project: Project, names: list[str]) -> list[User]:
    """In the order given. Raises `DomainError` for who may not review in the project, or does not exist."""
    members = Membership.objects.filter(project=project, role__in=REVIEWERS, user__username__in=names)
    found = {membership.user.username: membership.user for membership in members.select_related("user")}
    for name in names:
        if name not in found:
            raise DomainError(f"{name!r} is neither a curator nor an owner of this project.", param="reviewers")
    return [found[name] for name in names]

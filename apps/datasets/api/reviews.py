"""What reviewers do, over the API. The reviewer is the user who made the key."""

import json
import re
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import ApiKey, Project, Scope
from apps.core.api.bodies import validated_body
from apps.core.api.errors import ApiError
from apps.core.api.idempotency import once
from apps.core.api.pagination import validated_query
from apps.core.api.schema import responses
from apps.core.api.views import find
from apps.datasets.api.review_serializers import (
    ChangedItemSerializer,
    ChangePageSerializer,
    ChangeQuery,
    ColumnHeadSerializer,
    DecisionSerializer,
    ItemPageSerializer,
    ItemQuery,
    ItemSerializer,
    NewEditSerializer,
    NewPreferenceSerializer,
    NewRatingSerializer,
    NewStarSerializer,
    NewThumbSerializer,
    OneItemQuery,
    UndoSerializer,
)
from apps.datasets.models import Answer, Change, Dataset, Example, Run
from apps.datasets.reviews import changes, matrix
from apps.datasets.reviews import services as reviews
from apps.datasets.reviews.filters import Filters

ANSWER_ID = re.compile(r"answer_([1-9][0-9]{0,17})", re.ASCII)
DECIDED = responses(DecisionSerializer, 400, 404, 409, 413, 415)


def reviewer_of(key: ApiKey) -> User:
    if key.created_by is None:
        raise ApiError(
            403,
            "This API key belongs to nobody, and a review needs a reviewer. Sign in, make a key under API keys in the "
            "admin, and use that one.",
            "key_without_user",
        )
    return key.created_by


def find_answer(project: Project, answer_id: str, param: str = "id") -> Answer:
    """With what deciding about it needs."""
    answers = Answer.objects.filter(column__run__in=Run.objects.of(project))
    match = ANSWER_ID.fullmatch(answer_id)
    related = answers.select_related(
        "example__dataset__project", "column", "edit_of__column", "edit_of__example__dataset"
    )
    found = related.filter(pk=match[1]).first() if match else None
    if found is None:
        raise ApiError(404, f"No such answer: {answer_id}", "answer_not_found", param)
    return found


def _decision(change: Change | None) -> dict[str, Any]:
    entries = changes.read(Change.objects.filter(pk=change.pk)) if change else []
    return {
        "object": "decision",
        "changed": change is not None,
        "change": entry_shape(entries[0]) if entries else None,
    }


def entry_shape(entry: changes.Entry) -> dict[str, Any]:
    return {
        "id": str(entry.id), "object": "dataset.change", "example": entry.example, "reviewer": entry.reviewer,
        "kind": entry.kind, "target": entry.target, "before": entry.before, "after": entry.after,
        "at": int(entry.at.timestamp()), "undone_at": entry.undone_at and int(entry.undone_at.timestamp()),
    }  # fmt: skip


class ItemsView(ProjectView):
    required_scopes: dict[str, str] = {"GET": Scope.DATASETS_READ}

    @extend_schema(
        operation_id="list_run_items", parameters=[ItemQuery], responses=responses(ItemPageSerializer, 400, 404)
    )
    def get(self, request: Request, run_id: str) -> Response:
        """Examples with their answers, by number. Long texts are cut: ask for one item to have them whole."""
        run = find(Run.objects.of(self.project), run_id, "run")
        query = validated_query(ItemQuery, request)
        page = matrix.read_page(
            run, filters=Filters.parse(request.query_params), after=query["after"], limit=query["limit"],
            reviewer=self.key.created_by, baseline=query.get("baseline"), diff=query["diff"],
        )  # fmt: skip
        rows = [dict(row) for row in ItemSerializer(page.rows, many=True).data]
        return Response(
            {
                "object": "list",
                "columns": ColumnHeadSerializer(page.columns, many=True).data,
                "baseline": page.baseline,
                "data": rows if query["cells"] else [row | {"cells": []} for row in rows],
                "has_more": page.after is not None,
                "next_after": page.after,
            }
        )


class ItemView(ProjectView):
    required_scopes: dict[str, str] = {"GET": Scope.DATASETS_READ, "PATCH": Scope.DATASETS_WRITE}

    @extend_schema(
        operation_id="retrieve_run_item", parameters=[OneItemQuery], responses=responses(ItemSerializer, 400, 404)
    )
    def get(self, request: Request, run_id: str, number: int) -> Response:
        run = find(Run.objects.of(self.project), run_id, "run")
        return self._answer(run, number, **validated_query(OneItemQuery, request))

    @extend_schema(
        operation_id="update_run_item",
        request=ChangedItemSerializer,
        responses=responses(ItemSerializer, 400, 404, 409, 413, 415),
    )
    def patch(self, request: Request, run_id: str, number: int) -> Response:
        """The example's tags; the note and the state of the key's user. All of it, or nothing."""
        run = find(Run.objects.of(self.project), run_id, "run")
        reviewer, form = reviewer_of(self.key), validated_body(ChangedItemSerializer, request)
        example = Example.objects.select_related("dataset").filter(items__run=run, number=number).first()
        if example is None:
            raise _no_item(number)
        with transaction.atomic():
            if "tags" in form:
                reviews.tag(example=example, reviewer=reviewer, tags=form["tags"])
            if "note" in form:
                reviews.note(example=example, reviewer=reviewer, text=form["note"])
            if "state" in form:
                reviews.set_state(example=example, reviewer=reviewer, state=form["state"])
        return self._answer(run, number)

    def _answer(self, run: Run, number: int, *, baseline: int | None = None, diff: bool = False) -> Response:
        row = matrix.read_row(run, number, reviewer=self.key.created_by, baseline=baseline, diff=diff)
        if row is None:
            raise _no_item(number)
        return Response(ItemSerializer(row).data)


def _no_item(number: int) -> ApiError:
    return ApiError(404, f"The run has no item {number}.", "item_not_found", "number")


class DecidingView(ProjectView):
    """A route that decides about one answer."""

    required_scopes: dict[str, str] = {"POST": Scope.DATASETS_WRITE, "DELETE": Scope.DATASETS_WRITE}

    def decide(self, answer_id: str, verb: Callable[..., Change | None], **values: Any) -> Response:
        reviewer = reviewer_of(self.key)
        return Response(_decision(verb(answer=find_answer(self.project, answer_id), reviewer=reviewer, **values)))


class StarView(DecidingView):
    @extend_schema(operation_id="star_answer", request=NewStarSerializer, responses=DECIDED)
    def post(self, request: Request, answer_id: str) -> Response:
        """Accept it as its example's best answer; the star of another one moves here.

        An answer that is blank, cut off, filtered or refused is a 409 unless `accept` is true.
        """
        return self.decide(answer_id, reviews.star, **validated_body(NewStarSerializer, request))

    @extend_schema(operation_id="unstar_answer", request=None, responses=DECIDED)
    def delete(self, request: Request, answer_id: str) -> Response:
        return self.decide(answer_id, _unstar)


def _unstar(*, answer: Answer, reviewer: User) -> Change | None:
    return reviews.unstar(example=answer.example, reviewer=reviewer, answer=answer)


class ThumbView(DecidingView):
    @extend_schema(operation_id="thumb_answer", request=NewThumbSerializer, responses=DECIDED)
    def post(self, request: Request, answer_id: str) -> Response:
        """Up or down; it replaces an earlier one of the key's user. `accept` as for stars, for a thumb up."""
        return self.decide(answer_id, reviews.thumb, **validated_body(NewThumbSerializer, request))

    @extend_schema(operation_id="unthumb_answer", request=None, responses=DECIDED)
    def delete(self, request: Request, answer_id: str) -> Response:
        return self.decide(answer_id, reviews.thumb, verdict=None)


class RatingView(DecidingView):
    @extend_schema(operation_id="rate_answer", request=NewRatingSerializer, responses=DECIDED)
    def post(self, request: Request, answer_id: str) -> Response:
        return self.decide(answer_id, reviews.rate, **validated_body(NewRatingSerializer, request))

    @extend_schema(operation_id="unrate_answer", request=None, responses=DECIDED)
    def delete(self, request: Request, answer_id: str) -> Response:
        return self.decide(answer_id, reviews.rate, value=None)


class EditView(DecidingView):
    @extend_schema(operation_id="edit_answer", request=NewEditSerializer, responses=DECIDED)
    def post(self, request: Request, answer_id: str) -> Response:
        """The model's answer stays; the edit is the key's user's, and replaces an earlier one of theirs."""
        return self.decide(answer_id, reviews.edit, **validated_body(NewEditSerializer, request))

    @extend_schema(operation_id="remove_edit", request=None, responses=DECIDED)
    def delete(self, request: Request, answer_id: str) -> Response:
        return self.decide(answer_id, reviews.edit, text=None)


class PreferencesView(ProjectView):
    required_scopes: dict[str, str] = {"POST": Scope.DATASETS_WRITE}

    @extend_schema(operation_id="create_preference", request=NewPreferenceSerializer, responses=DECIDED)
    def post(self, request: Request) -> Response:
        """A verdict on two answers to the same example; it replaces an earlier one of the key's user."""
        reviewer, form = reviewer_of(self.key), validated_body(NewPreferenceSerializer, request)
        left, right = (find_answer(self.project, form[side], side) for side in ("left", "right"))
        change = reviews.prefer(left=left, right=right, reviewer=reviewer, verdict=form["verdict"], blind=form["blind"])
        return Response(_decision(change))


class UndoView(ProjectView):
    required_scopes: dict[str, str] = {"POST": Scope.DATASETS_WRITE}

    @extend_schema(
        operation_id="undo_change",
        request=UndoSerializer,
        responses=responses(DecisionSerializer, 400, 404, 409, 413, 415),
    )
    def post(self, request: Request, dataset_id: str) -> Response:
        """Put back what the latest change of the key's user in this dataset found. Not `changed`: there is none."""
        dataset = find(Dataset.objects.of(self.project).select_related("project"), dataset_id, "dataset")
        reviewer, form = reviewer_of(self.key), validated_body(UndoSerializer, request)

        def run() -> dict[str, Any]:
            return _decision(reviews.undo(reviewer=reviewer, dataset=dataset, change=form.get("change")))

        return once(request, owner=self.project.uid, fingerprint=json.dumps([dataset_id, form]), run=run)


class ChangesView(ProjectView):
    required_scopes: dict[str, str] = {"GET": Scope.DATASETS_READ}

    @extend_schema(
        operation_id="list_changes", parameters=[ChangeQuery], responses=responses(ChangePageSerializer, 400, 404)
    )
    def get(self, request: Request, dataset_id: str) -> Response:
        """The audit history, the latest first."""
        dataset = find(Dataset.objects.of(self.project), dataset_id, "dataset")
        query = validated_query(ChangeQuery, request)
        rows = Change.objects.filter(dataset=dataset).order_by("-pk")
        rows = rows.filter(pk__lt=query["after"]) if "after" in query else rows
        rows = rows.filter(example__number=query["example"]) if "example" in query else rows
        found = changes.read(rows[: query["limit"] + 1])
        shown, more = found[: query["limit"]], len(found) > query["limit"]
        return Response(
            {
                "object": "list",
                "data": [entry_shape(entry) for entry in shown],
                "has_more": more,
                "next_after": shown[-1].id if more else None,
            }
        )

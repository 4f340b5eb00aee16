"""How the matrix and what reviewers decide look in the API."""

from typing import Any

from rest_framework import serializers

from apps.core.api.schema import ConstantField, UnixField
from apps.datasets.models import Preference, Review, Thumb
from apps.datasets.reviews import matrix

INTEGER = 2**31 - 1


class AnswerIdField(serializers.CharField):
    """Rows of answers have no public id of their own."""

    def to_representation(self, value: Any) -> str:
        return f"answer_{value}"


class FilterQuery(serializers.Serializer[Any]):
    """What `Filters` takes; it looks closer at each."""

    show = serializers.ChoiceField(["all", "differs", "same"], required=False, help_text="Whether columns differ.")
    starred = serializers.ChoiceField(["yes", "no", "mine"], required=False)
    rated = serializers.ChoiceField(["yes", "no"], required=False)
    rating_min = serializers.IntegerField(required=False, help_text="1 to 5, of the best rating of any answer.")
    rating_max = serializers.IntegerField(required=False)
    thumb = serializers.ChoiceField(
        ["up", "down", "none", "mine"], required=False, help_text="That any answer has; of whomever, or of `reviewer`."
    )
    tag = serializers.CharField(required=False)
    failed = serializers.ChoiceField(["yes", "no"], required=False, help_text="Whether a request failed.")
    incomplete = serializers.ChoiceField(
        ["yes", "no"], required=False, help_text="Whether an answer is blank, cut off, filtered or refused."
    )
    length_min = serializers.IntegerField(required=False, help_text="Characters of the longest answer.")
    length_max = serializers.IntegerField(required=False, help_text="Characters of the shortest answer.")
    column = serializers.IntegerField(required=False, help_text="The position that `column_is` is about.")
    column_is = serializers.ChoiceField(["failed", "incomplete", "missing", "longest", "edited"], required=False)
    score_min = serializers.FloatField(required=False, help_text="Of the latest judge, for the best answer.")
    score_max = serializers.FloatField(required=False)
    reviewed = serializers.ChoiceField(
        ["yes", "no", "mine", "todo"], required=False, help_text="By anybody; by `reviewer`, or not yet."
    )
    assigned = serializers.ChoiceField(["mine"], required=False)
    rejected = serializers.ChoiceField(["yes", "no"], required=False)
    edited = serializers.ChoiceField(["yes", "no"], required=False)
    text = serializers.CharField(required=False, help_text='Words in prompt or answers: "a phrase", or, -without.')
    reviewer = serializers.CharField(required=False, help_text="Whom 'mine' and 'todo' are about; else the key's user.")


class ItemQuery(FilterQuery):
    after = serializers.IntegerField(required=False, default=0, min_value=0, max_value=INTEGER)
    limit = serializers.IntegerField(required=False, default=25, min_value=1, max_value=matrix.PAGE_ITEMS)
    baseline = serializers.IntegerField(required=False, min_value=0, max_value=32767, help_text="A column's position.")
    diff = serializers.BooleanField(default=False, help_text="Word differences from the baseline.")
    cells = serializers.BooleanField(default=True, help_text="Whether answers are wanted.")


class OneItemQuery(serializers.Serializer[Any]):
    baseline = serializers.IntegerField(required=False, min_value=0, max_value=32767, help_text="A column's position.")
    diff = serializers.BooleanField(default=False, help_text="Word differences from the baseline.")


class TextSerializer(serializers.Serializer[Any]):
    text = serializers.CharField(allow_blank=True)
    characters = serializers.IntegerField(help_text="Of the whole.")
    truncated = serializers.BooleanField(source="cut")


class CalledSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(allow_blank=True)
    arguments = serializers.CharField(allow_blank=True, help_text="As the model wrote them: JSON, or not.")


class ToolCallSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(allow_blank=True)
    type = serializers.ChoiceField(["function"])
    function = CalledSerializer()


class IncompleteSerializer(serializers.Serializer[Any]):
    code = serializers.ChoiceField(["refused", "content_filter", "blank", "cut_off"])
    message = serializers.CharField(source="sentence")


class EditSerializer(serializers.Serializer[Any]):
    id = AnswerIdField(source="answer")
    object = ConstantField("answer.edit")
    author = serializers.CharField(allow_blank=True)
    text = TextSerializer()
    reasoning = TextSerializer()
    tool_calls = ToolCallSerializer(many=True, source="calls")
    rating = serializers.IntegerField(allow_null=True, help_text="The key's user's.")
    thumb = serializers.ChoiceField(["", *Thumb.Verdict.values], help_text="The key's user's.")
    starred_by = serializers.ListField(child=serializers.CharField(), source="stars")
    created_at = UnixField()


class PieceSerializer(serializers.Serializer[Any]):
    op = serializers.ChoiceField(["equal", "delete", "insert"])
    text = serializers.CharField()

    def to_representation(self, instance: Any) -> dict[str, str]:
        op, text = instance
        return {"op": op, "text": text}


class AnswerSerializer(serializers.Serializer[Any]):
    id = AnswerIdField(source="answer")
    object = ConstantField("answer")
    sample = serializers.IntegerField()
    text = TextSerializer(help_text="The content, and nothing else.")
    reasoning = TextSerializer(help_text="What the model thought before.")
    tool_calls = ToolCallSerializer(many=True, source="calls")
    error = serializers.CharField(allow_blank=True, help_text="Why there is no answer.")
    finish_reason = serializers.CharField(allow_blank=True)
    incomplete = IncompleteSerializer(allow_null=True, help_text="Why it should not be learned from as it is.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    latency_ms = serializers.IntegerField()
    rating = serializers.IntegerField(allow_null=True, help_text="The key's user's.")
    thumb = serializers.ChoiceField(["", *Thumb.Verdict.values], help_text="The key's user's.")
    score = serializers.IntegerField(allow_null=True, help_text="Of the latest judge.")
    starred_by = serializers.ListField(child=serializers.CharField(), source="stars")
    same_as_baseline = serializers.BooleanField(source="same")
    diff = PieceSerializer(many=True, allow_null=True)
    edit = EditSerializer(allow_null=True, help_text="The key's user's, or else the latest.")
    edits = serializers.IntegerField()


class CellSerializer(serializers.Serializer[Any]):
    column = serializers.IntegerField(help_text="Its position.")
    answers = AnswerSerializer(many=True, source="samples")


class VerdictSerializer(serializers.Serializer[Any]):
    left = AnswerIdField()
    right = AnswerIdField()
    verdict = serializers.ChoiceField(Preference.Verdict.values)
    blind = serializers.BooleanField()


class ItemSerializer(serializers.Serializer[Any]):
    object = ConstantField("run.item")
    number = serializers.IntegerField(help_text="The example's.")
    prompt = TextSerializer()
    messages = serializers.ListField(child=serializers.DictField(), help_text="Empty where they are too long.")
    request = serializers.DictField(
        source="beside", help_text="What is asked beside messages, such as tools. Empty where it is too long."
    )
    reference = TextSerializer()
    reference_messages = serializers.ListField(
        child=serializers.DictField(), help_text="Where the text does not say all of it."
    )
    tags = serializers.ListField(child=serializers.CharField())
    state = serializers.ChoiceField(Review.State.values, help_text="Of the key's user.")
    note = serializers.CharField(allow_blank=True, help_text="Of the key's user.")
    locked_by = serializers.CharField(allow_blank=True)
    differs = serializers.BooleanField()
    rejected = serializers.BooleanField(help_text="By anybody.")
    reviews = serializers.IntegerField(help_text="Reviewers who have decided.")
    preferences = VerdictSerializer(many=True, help_text="Of the key's user.")
    cells = CellSerializer(many=True)


class ColumnHeadSerializer(serializers.Serializer[Any]):
    column = serializers.IntegerField(help_text="Its position.")
    label = serializers.CharField()  # type: ignore[assignment] # DRF has an attribute of this name
    model = serializers.CharField(source="model_name", allow_blank=True)
    answered = serializers.IntegerField()
    failed = serializers.IntegerField()
    incomplete = serializers.IntegerField(help_text="Answers that are blank, cut off, filtered or refused.")
    blank = serializers.IntegerField(help_text="Of these, the blank ones.")


class ItemPageSerializer(serializers.Serializer[Any]):
    object = ConstantField("list")
    columns = ColumnHeadSerializer(many=True)
    baseline = serializers.IntegerField(allow_null=True)
    data = ItemSerializer(many=True)  # type: ignore[assignment] # DRF has an attribute of this name
    has_more = serializers.BooleanField()
    next_after = serializers.IntegerField(allow_null=True, help_text="`after` of the next page.")


class ChangeSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = ConstantField("dataset.change")
    example = serializers.IntegerField(help_text="Its number.")
    reviewer = serializers.CharField(allow_null=True)
    kind = serializers.CharField(help_text="star, rating, thumb, preference, tag, note, state, edit")
    target = serializers.DictField(help_text="What of the example it is about.")
    before = serializers.JSONField(allow_null=True, help_text="Texts are cut.")
    after = serializers.JSONField(allow_null=True)
    at = serializers.IntegerField()
    undone_at = serializers.IntegerField(allow_null=True)


class DecisionSerializer(serializers.Serializer[Any]):
    object = ConstantField("decision")
    changed = serializers.BooleanField(help_text="False: it was so already, and nothing was written.")
    change = ChangeSerializer(allow_null=True)


class ChangePageSerializer(serializers.Serializer[Any]):
    object = ConstantField("list")
    data = ChangeSerializer(many=True)  # type: ignore[assignment] # DRF has an attribute of this name
    has_more = serializers.BooleanField()
    next_after = serializers.IntegerField(allow_null=True)


class ChangeQuery(serializers.Serializer[Any]):
    after = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1, help_text="`next_after`.")
    limit = serializers.IntegerField(required=False, default=20, min_value=1, max_value=100)
    example = serializers.IntegerField(required=False, min_value=1, max_value=INTEGER, help_text="A number.")


class NewStarSerializer(serializers.Serializer[Any]):
    accept = serializers.BooleanField(
        default=False, help_text="Although it is blank, cut off, filtered or refused: else that is a 409."
    )


class NewThumbSerializer(NewStarSerializer):
    verdict = serializers.ChoiceField(Thumb.Verdict.values)


class NewRatingSerializer(serializers.Serializer[Any]):
    value = serializers.IntegerField(min_value=1, max_value=5)


class NewEditSerializer(serializers.Serializer[Any]):
    text = serializers.CharField(trim_whitespace=False)


class NewPreferenceSerializer(serializers.Serializer[Any]):
    left = serializers.CharField(max_length=64, help_text="An answer's id.")
    right = serializers.CharField(max_length=64)
    verdict = serializers.ChoiceField(Preference.Verdict.values, allow_null=True, help_text="null takes it away.")
    blind = serializers.BooleanField(default=False)


class ChangedItemSerializer(serializers.Serializer[Any]):
    tags = serializers.ListField(child=serializers.CharField(allow_blank=True), required=False)
    note = serializers.CharField(required=False, allow_blank=True)
    state = serializers.ChoiceField(Review.State.values, required=False)


class UndoSerializer(serializers.Serializer[Any]):
    change = serializers.IntegerField(
        required=False, min_value=1, max_value=2**63 - 1, help_text="Of the key's user; else the latest of these."
    )


class NewAssignmentsSerializer(serializers.Serializer[Any]):
    reviewers = serializers.ListField(child=serializers.CharField(max_length=150), help_text="Usernames.")
    overlap = serializers.IntegerField(required=False, min_value=1, max_value=20, help_text="Reviewers per example.")
    filters = FilterQuery(required=False)


class ProgressSerializer(serializers.Serializer[Any]):
    reviewer = serializers.CharField()
    assigned = serializers.IntegerField()
    done = serializers.IntegerField()
    rejected = serializers.IntegerField()


class AssignmentsSerializer(serializers.Serializer[Any]):
    object = ConstantField("run.assignments")
    items = serializers.IntegerField(help_text="Dealt out by this request.")
    reviewers = ProgressSerializer(many=True)

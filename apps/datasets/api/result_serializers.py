"""How win rates, ratings and agreement look in the API."""

from typing import Any

from rest_framework import serializers

from apps.core.api.schema import ConstantField
from apps.datasets.api.review_serializers import ProgressSerializer


class WinRateSerializer(serializers.Serializer[Any]):
    first = serializers.IntegerField(help_text="A column's position.")
    second = serializers.IntegerField(allow_null=True, help_text="null: all others.")
    wins = serializers.IntegerField(help_text="Of the first.")
    losses = serializers.IntegerField()
    ties = serializers.IntegerField()
    neither = serializers.IntegerField(help_text="Both were bad.")
    blind = serializers.IntegerField(help_text="Of all these.")
    rate = serializers.FloatField(allow_null=True, help_text="Wins and half of the ties, without 'neither'.")
    low = serializers.FloatField(allow_null=True, help_text="Of the 95 % bootstrap interval.")
    high = serializers.FloatField(allow_null=True)


class RatingsSerializer(serializers.Serializer[Any]):
    column = serializers.IntegerField(help_text="Its position.")
    count = serializers.IntegerField()
    mean = serializers.FloatField(allow_null=True)
    distribution = serializers.ListField(child=serializers.IntegerField(), help_text="Of 1 to 5.")


class ThumbsSerializer(serializers.Serializer[Any]):
    column = serializers.IntegerField(help_text="Its position.")
    up = serializers.IntegerField()
    down = serializers.IntegerField()


class FigureSerializer(serializers.Serializer[Any]):
    name = serializers.ChoiceField(["cohen", "fleiss", "alpha"])
    reviewers = serializers.ListField(child=serializers.CharField())
    items = serializers.IntegerField()
    value = serializers.FloatField(allow_null=True)
    sentence = serializers.CharField()


class AgreementSerializer(serializers.Serializer[Any]):
    about = serializers.CharField()
    labels = serializers.IntegerField()
    figures = FigureSerializer(many=True)


class JudgeFiguresSerializer(serializers.Serializer[Any]):
    answers = serializers.IntegerField(help_text="With a score and a rating.")
    exact = serializers.FloatField(allow_null=True)
    within_one = serializers.FloatField(allow_null=True)
    alpha = FigureSerializer()
    confusion = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField()), help_text="Ratings by scores, from 1 to 5."
    )
    sentence = serializers.CharField()


class JudgeAgreementSerializer(JudgeFiguresSerializer):
    judge = serializers.CharField()
    model = serializers.CharField()


class ResultsSerializer(serializers.Serializer[Any]):
    object = ConstantField("run.results")
    pairs = WinRateSerializer(many=True)
    columns = WinRateSerializer(many=True, help_text="Each against all others, the best first.")
    ratings = RatingsSerializer(many=True)
    thumbs = ThumbsSerializer(many=True)
    agreement = AgreementSerializer(many=True)
    judges = JudgeAgreementSerializer(many=True)
    reviewers = ProgressSerializer(many=True, help_text="Who has something assigned.")


class ResultsQuery(serializers.Serializer[Any]):
    blind = serializers.BooleanField(default=False, help_text="Win rates of blind verdicts only.")

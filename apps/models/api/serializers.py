from typing import Any

from rest_framework import serializers

from apps.core.api.schema import ConstantField, UnixField
from apps.models.models import Model


class ModelSerializer(serializers.Serializer[Model]):
    id = serializers.CharField(source="name")
    object = ConstantField("model")
    created = UnixField(source="created_at")
    owned_by = serializers.CharField()
    notes = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="Its own defaults, and conversations that it does not take; left out where there is nothing to say.",
    )

    def to_representation(self, instance: Model) -> dict[str, Any]:
        """Without notes exactly what OpenAI's models have."""
        return {key: value for key, value in super().to_representation(instance).items() if key != "notes" or value}


class ModelDeletedSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = ConstantField("model")
    deleted = serializers.BooleanField()

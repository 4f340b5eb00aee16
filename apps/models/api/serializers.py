from typing import Any

from rest_framework import serializers

from apps.core.api.schema import ConstantField, UnixField
from apps.models.models import Model


class ModelSerializer(serializers.Serializer[Model]):
    id = serializers.CharField(source="name")
    object = ConstantField("model")
    created = UnixField(source="created_at")
    owned_by = serializers.CharField()


class ModelDeletedSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = ConstantField("model")
    deleted = serializers.BooleanField()

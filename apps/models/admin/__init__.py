from apps.models.admin.benchmark import BenchmarkAdmin
from apps.models.admin.engine import EngineAdmin, EngineDeathAdmin
from apps.models.admin.examples import ExampleSetAdmin
from apps.models.admin.install import InstallAdmin
from apps.models.admin.model import ModelAdmin

__all__ = ["BenchmarkAdmin", "EngineAdmin", "EngineDeathAdmin", "ExampleSetAdmin", "InstallAdmin", "ModelAdmin"]

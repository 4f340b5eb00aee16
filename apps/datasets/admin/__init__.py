from apps.datasets.admin.dataset import DatasetAdmin
from apps.datasets.admin.export import ExportAdmin
from apps.datasets.admin.run import RunAdmin

__all__ = ["DatasetAdmin", "ExportAdmin", "RunAdmin"]

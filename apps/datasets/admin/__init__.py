from apps.datasets.admin.dataset import DatasetAdmin
from apps.datasets.admin.export import ExportAdmin

__all__ = ["DatasetAdmin", "ExportAdmin"]

from apps.datasets.admin.export import ExportAdmin

__all__ = ["ExportAdmin"]

from apps.batches.admin.batch import BatchAdmin
from apps.batches.admin.file import FileAdmin

__all__ = ["BatchAdmin", "FileAdmin"]

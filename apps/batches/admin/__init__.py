from apps.batches.admin.batch import BatchAdmin
from apps.batches.admin.file import FileAdmin
from apps.batches.admin.upload import UploadAdmin

__all__ = ["BatchAdmin", "FileAdmin", "UploadAdmin"]

from django.urls import path

from apps.batches.api.batches import (
    BatchesView,
    BatchOutputView,
    BatchView,
    CancelBatchView,
    PauseBatchView,
    ResumeBatchView,
    RetryBatchView,
)
from apps.batches.api.events import BatchEventsView
from apps.batches.api.files import FileContentView, FilesView, FileView
from apps.batches.api.uploads import CancelUploadView, CompleteUploadView, PartsView, UploadsView

urlpatterns = [
    path("uploads", UploadsView.as_view()),
    path("uploads/<uid:upload_id>/parts", PartsView.as_view()),
    path("uploads/<uid:upload_id>/complete", CompleteUploadView.as_view()),
    path("uploads/<uid:upload_id>/cancel", CancelUploadView.as_view()),
    path("files", FilesView.as_view()),
    path("files/<uid:file_id>", FileView.as_view()),
    path("files/<uid:file_id>/content", FileContentView.as_view()),
    path("batches", BatchesView.as_view()),
    path("batches/<uid:batch_id>", BatchView.as_view()),
    path("batches/<uid:batch_id>/cancel", CancelBatchView.as_view()),
    path("batches/<uid:batch_id>/pause", PauseBatchView.as_view()),
    path("batches/<uid:batch_id>/resume", ResumeBatchView.as_view()),
    path("batches/<uid:batch_id>/retry", RetryBatchView.as_view()),
    path("batches/<uid:batch_id>/output", BatchOutputView.as_view()),
    path("batches/<uid:batch_id>/events", BatchEventsView.as_view()),
]

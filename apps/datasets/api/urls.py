from django.urls import path

from apps.datasets.api.exports import CancelExportView, ExportEventsView, ExportsView, ExportView

urlpatterns = [
    path("exports", ExportsView.as_view()),
    path("exports/<uid:export_id>", ExportView.as_view()),
    path("exports/<uid:export_id>/cancel", CancelExportView.as_view()),
    path("exports/<uid:export_id>/events", ExportEventsView.as_view()),
]

from django.urls import path

from apps.datasets.api.datasets import (
    DatasetsView,
    DatasetView,
    ExamplesView,
    RemoveExamplesView,
    SplitsView,
    VersionsView,
)
from apps.datasets.api.exports import CancelExportView, ExportEventsView, ExportsView, ExportView
from apps.datasets.api.imports import (
    CancelImportView,
    CancelSearchView,
    ImportEventsView,
    ImportsView,
    ImportView,
    PreviewView,
    RemoveDuplicatesView,
    SearchesView,
    SearchEventsView,
    SearchView,
)

urlpatterns = [
    path("datasets", DatasetsView.as_view()),
    path("datasets/<uid:dataset_id>", DatasetView.as_view()),
    path("datasets/<uid:dataset_id>/versions", VersionsView.as_view()),
    path("datasets/<uid:dataset_id>/examples", ExamplesView.as_view()),
    path("datasets/<uid:dataset_id>/examples/remove", RemoveExamplesView.as_view()),
    path("datasets/<uid:dataset_id>/splits", SplitsView.as_view()),
    path("datasets/<uid:dataset_id>/imports", ImportsView.as_view()),
    path("datasets/<uid:dataset_id>/imports/preview", PreviewView.as_view()),
    path("datasets/<uid:dataset_id>/imports/<uid:import_id>", ImportView.as_view()),
    path("datasets/<uid:dataset_id>/imports/<uid:import_id>/cancel", CancelImportView.as_view()),
    path("datasets/<uid:dataset_id>/imports/<uid:import_id>/events", ImportEventsView.as_view()),
    path("datasets/<uid:dataset_id>/duplicates", SearchesView.as_view()),
    path("datasets/<uid:dataset_id>/duplicates/<uid:search_id>", SearchView.as_view()),
    path("datasets/<uid:dataset_id>/duplicates/<uid:search_id>/cancel", CancelSearchView.as_view()),
    path("datasets/<uid:dataset_id>/duplicates/<uid:search_id>/remove", RemoveDuplicatesView.as_view()),
    path("datasets/<uid:dataset_id>/duplicates/<uid:search_id>/events", SearchEventsView.as_view()),
    path("exports", ExportsView.as_view()),
    path("exports/<uid:export_id>", ExportView.as_view()),
    path("exports/<uid:export_id>/cancel", CancelExportView.as_view()),
    path("exports/<uid:export_id>/events", ExportEventsView.as_view()),
]

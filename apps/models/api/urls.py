from django.urls import path, re_path

from apps.core.api.views import UnknownRoute
from apps.models.api.benchmarks import BenchmarksView, BenchmarkView, CancelBenchmarkView
from apps.models.api.installs import (
    CancelInstallView,
    InstallEventsView,
    InstallsView,
    InstallView,
    NewInstallView,
    RetryInstallView,
)
from apps.models.api.interactive import ChatView, CompletionsView, EmbeddingsView, ResponsesView
from apps.models.api.views import ModelsView, ModelView

urlpatterns = [
    path("chat/completions", ChatView.as_view()),
    path("completions", CompletionsView.as_view()),
    path("embeddings", EmbeddingsView.as_view()),
    path("responses", ResponsesView.as_view()),
    path("models", ModelsView.as_view()),
    path("models/benchmarks", BenchmarksView.as_view()),
    path("models/benchmarks/<uid:benchmark_id>", BenchmarkView.as_view()),
    path("models/benchmarks/<uid:benchmark_id>/cancel", CancelBenchmarkView.as_view()),
    path("models/install", NewInstallView.as_view()),
    path("models/installs", InstallsView.as_view()),
    path("models/installs/<uid:install_id>", InstallView.as_view()),
    path("models/installs/<uid:install_id>/cancel", CancelInstallView.as_view()),
    path("models/installs/<uid:install_id>/retry", RetryInstallView.as_view()),
    path("models/installs/<uid:install_id>/events", InstallEventsView.as_view()),
    re_path("^models/(?:installs|benchmarks)/", UnknownRoute.as_view()),  # no models have such names
    path("models/<path:name>", ModelView.as_view()),
]

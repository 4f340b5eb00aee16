from django.urls import path

from apps.training.api.deployments import (
    AcceptView,
    DeploymentProgressView,
    DeploymentsView,
    DeploymentView,
    DeployView,
    EvaluateView,
    EvaluationsView,
    RollbackView,
    UndeployView,
)
from apps.training.api.history import CheckpointsView, JobEventsView, JobProgressView
from apps.training.api.jobs import CancelJobView, JobsView, JobView, PauseJobView, ResumeJobView, RetryJobView
from apps.training.api.packages import PackageView

urlpatterns = [
    path("fine_tuning/jobs", JobsView.as_view()),
    path("fine_tuning/jobs/<uid:job_id>", JobView.as_view()),
    path("fine_tuning/jobs/<uid:job_id>/cancel", CancelJobView.as_view()),
    path("fine_tuning/jobs/<uid:job_id>/pause", PauseJobView.as_view()),
    path("fine_tuning/jobs/<uid:job_id>/resume", ResumeJobView.as_view()),
    path("fine_tuning/jobs/<uid:job_id>/retry", RetryJobView.as_view()),
    path("fine_tuning/jobs/<uid:job_id>/events", JobEventsView.as_view()),
    path("fine_tuning/jobs/<uid:job_id>/progress", JobProgressView.as_view()),
    path("fine_tuning/jobs/<uid:job_id>/checkpoints", CheckpointsView.as_view()),
    path("fine_tuning/jobs/<uid:job_id>/deploy", DeployView.as_view()),
    path("deployments", DeploymentsView.as_view()),
    path("deployments/<uid:deployment_id>", DeploymentView.as_view()),
    path("deployments/<uid:deployment_id>/package", PackageView.as_view()),
    path("deployments/<uid:deployment_id>/progress", DeploymentProgressView.as_view()),
    path("deployments/<uid:deployment_id>/accept", AcceptView.as_view()),
    path("deployments/<uid:deployment_id>/undeploy", UndeployView.as_view()),
    path("deployments/<uid:deployment_id>/rollback", RollbackView.as_view()),
    path("deployments/<uid:deployment_id>/evaluate", EvaluateView.as_view()),
    path("deployments/<uid:deployment_id>/evaluations", EvaluationsView.as_view()),
]

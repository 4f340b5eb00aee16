from apps.datasets.admin import links
from apps.training.admin.deployment import DeploymentAdmin
from apps.training.admin.job import JobAdmin
from apps.training.admin.wizard import train_on_this

__all__ = ["DeploymentAdmin", "JobAdmin"]

links.register(train_on_this)

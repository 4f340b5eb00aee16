from django.apps import AppConfig
from django.core.checks import register

from batchserver.checks import check_settings


class BatchserverConfig(AppConfig):
    name = "batchserver"
    verbose_name = "vLLM Batch Server"

    def ready(self) -> None:
        register(check_settings)

from django.apps import AppConfig


class BatchserverConfig(AppConfig):
    name = "batchserver"
    verbose_name = "vLLM Batch Server"

    def ready(self) -> None:
        """Register the system checks."""
        from batchserver import checks  # noqa: F401

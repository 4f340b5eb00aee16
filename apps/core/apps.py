from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "apps.core"
    label = "core"

    def ready(self) -> None:
        """Register the duty of the models here."""
        from apps.core import duties, purge

        duties.register("purge answers", purge.purge_answers)

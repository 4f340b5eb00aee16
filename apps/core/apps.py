from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "apps.core"
    label = "core"

    def ready(self) -> None:
        """Register the duties of the models here."""
        from apps.core import attempts, duties, purge

        duties.register("purge answers", purge.purge_answers)
        duties.register("old attempts", attempts.forget_old)

from django.apps import AppConfig


class ModelsConfig(AppConfig):
    name = "apps.models"
    label = "models"
    verbose_name = "Models"

    def ready(self) -> None:
        from apps.models.registration import register

        register()

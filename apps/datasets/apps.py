from django.apps import AppConfig


class DatasetsConfig(AppConfig):
    name = "apps.datasets"
    label = "datasets"
    verbose_name = "Datasets"

    def ready(self) -> None:
        """Register what lower layers call by name: the control duties and the progress topics."""
        from apps.datasets import registration

        registration.register()

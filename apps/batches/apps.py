from django.apps import AppConfig


class BatchesConfig(AppConfig):
    name = "apps.batches"
    label = "batches"
    verbose_name = "Batches"

    def ready(self) -> None:
        """Register what lower layers call by name: the GPU's job kind, the control duties, the progress topic."""
        from apps.batches import registration

        registration.register()

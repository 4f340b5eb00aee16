from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "apps.training"
    label = "training"
    verbose_name = "Fine-tuning"

    def ready(self) -> None:
        """Register what lower layers call by name: the kinds of GPU work, the control duties, the progress topics."""
        from apps.training import registration

        registration.register()

from django.apps import AppConfig

from apps.core import duties


class EventsConfig(AppConfig):
    name = "apps.events"
    label = "events"

    def ready(self) -> None:
        from apps.events import dispatch

        duties.register("events", dispatch.deliver_due)
        duties.register("old events", dispatch.purge_old)

"""Celery's settings for doorbells: early acknowledgement, no results, nothing that may pile up or run twice."""

from django.conf import settings

_url: str = settings.REDIS_URL
broker_url = _url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=")
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
broker_transport_options = {
    "visibility_timeout": 3600,
    "socket_connect_timeout": 5,
    "socket_timeout": 30,
    "health_check_interval": 25,
    "global_keyprefix": "batchserver:",
}
task_ignore_result = True
task_acks_late = False
task_serializer = "json"
accept_content = ["json"]
task_default_queue = "control"
task_publish_retry_policy = {"max_retries": 1, "interval_start": 0.1}
worker_lost_wait = 1.0  # seconds until a killed pool process's place counts as free: its task has no result to wait for
worker_prefetch_multiplier = 1
worker_disable_prefetch = True
worker_send_task_events = False
worker_hijack_root_logger = False
beat_schedule = {
    name: {"task": name, "schedule": 5.0, "options": {"expires": 5}} for name in ("core.wake", "models.wake")
}

from django.urls import path

from apps.events.consumer import ProgressConsumer

websocket_urlpatterns = [path("ws/progress", ProgressConsumer.as_asgi())]

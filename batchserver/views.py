"""The landing page."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.models.models import Model

CHAT = "/v1/chat/completions"  # what the sample asks
LOOK_AT = 50  # models


@dataclass(frozen=True, slots=True)
class Step:
    """A box of the circle on the landing page."""

    name: str
    about: str
    app: str
    """Whose step it is: it can be taken where that app is installed."""
    x: int
    y: int
    arrow: str
    """The SVG path from this box to the next."""

    @property
    def is_installed(self) -> bool:
        return apps.is_installed(self.app)


CIRCLE = (
    Step("Model", "weights, adapters", "apps.models", 2, 2, "M166 48h34"),
    Step("Batch", "vLLM → PostgreSQL", "apps.batches", 212, 2, "M376 48h34"),
    Step("Dataset", "models side by side", "apps.datasets", 422, 2, "M500 102v38"),
    Step("Star", "the best answers", "apps.datasets", 422, 152, "M414 198h-34"),
    Step("Train", "on what was starred", "apps.training", 212, 152, "M204 198h-34"),
    Step("Deploy", "back to vLLM", "apps.training", 2, 152, "M80 144v-38"),
)


def landing(request: HttpRequest) -> HttpResponse:
    """What this is, and how to send the first batch to the address under which the reader sees it."""
    model = _model_for_chat() if request.user.is_authenticated else None
    context = {"api": f"{api_origin(request)}/v1", "model": model or "your-model", "circle": CIRCLE}
    context["missing"] = [step.name for step in CIRCLE if not step.is_installed]
    return render(request, "landing.html", context)


def _model_for_chat() -> str | None:
    """The name of one that everybody may use, and that answers the sample's request."""
    served = Model.objects.filter(project=None, ready=True, problem="").select_related("base")
    return next((model.name for model in served[:LOOK_AT] if CHAT in model.endpoints), None)


def api_origin(request: HttpRequest) -> str:
    """The API's address as the reader reaches us: its own port when they came to the web's, else (a proxy) the same."""
    origin = urlsplit(f"{request.scheme}://{request.get_host()}")
    if origin.port == settings.WEB_PORT:
        host = f"[{origin.hostname}]" if ":" in (origin.hostname or "") else origin.hostname
        return f"{origin.scheme}://{host}:{settings.API_PORT}"
    return f"{origin.scheme}://{origin.netloc}"

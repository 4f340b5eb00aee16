"""What starts, wakes, sleeps, stops and requests take on a device, learned from every one of them."""

from django.db import connection

from apps.models.models import Device, Model, Timing
from apps.models.plan import Costs, Verb

WEIGHT = 0.3  # of a new observation, once there are a few; the first ones are averaged
BOUNDS = (0.0001, 86400.0)  # seconds: what an observation may say

# Before anything was observed. A GPU: an 8B model in 16 bit, of which vLLM loads, compiles and captures a minute.
GPU_DEFAULTS = {Verb.START: 60.0, Verb.WAKE: 3.0, Verb.SLEEP: 3.0, Verb.STOP: 5.0, Verb.REQUEST: 0.05}
# A CPU: the demo model (`make bench B=vllm`). It cannot sleep; the figures are those of a stop and a start.
CPU_DEFAULTS = {Verb.START: 30.0, Verb.WAKE: 30.0, Verb.SLEEP: 2.0, Verb.STOP: 2.0, Verb.REQUEST: 0.12}

RECORD = """
INSERT INTO models_timing AS t (device_id, model_id, verb, seconds, count) VALUES (%s, %s, %s, %s, 1)
ON CONFLICT (device_id, model_id, verb) DO UPDATE SET
    seconds = t.seconds + (excluded.seconds - t.seconds) * greatest(%s, 1.0 / (t.count + 1)),
    count = least(t.count + 1, 1000000)
"""


def costs_of(device: Device) -> Costs:
    """What was learned on the device, and its platform's defaults. One query."""
    on_cpu = device.slot.endswith(":cpu")
    rows = Timing.objects.filter(device=device)
    return Costs(
        defaults=CPU_DEFAULTS if on_cpu else GPU_DEFAULTS,
        learned={(row.model_id, Verb(row.verb)): row.seconds for row in rows},
    )


def record(*, device: Device, model: Model, verb: Verb, seconds: float) -> None:
    """Learn from one observation; for REQUEST, a turn's seconds by the requests that were answered in it."""
    least, most = BOUNDS
    with connection.cursor() as cursor:
        cursor.execute(RECORD, (device.pk, model.pk, verb, min(max(seconds, least), most), WEIGHT))

"""Whether a model fits the devices that workers showed themselves on."""

from typing import Any

from apps.models.admission.safetensors import BITS
from apps.models.engines import settings as engine_settings
from apps.models.engines.settings import CPU
from apps.models.installs.errand import Refused
from apps.models.installs.fit import Fit, Verdict, estimate, fit
from apps.models.models import Device
from apps.models.slots import Slot

NO, UNKNOWN = str(Verdict.NO), "unknown"
MAX_LAYERS = 10_000
ABSURD = "config.json gives sizes that no model has: look for another version of the model."
ORDER = (Verdict.FITS, Verdict.TIGHT, Verdict.NO)  # from the best


def judge(config: dict[str, Any], weight_bytes: int, raw_settings: dict[str, Any]) -> dict[str, Any]:
    """What `Install.fit` holds: `verdict` ("fits", "tight", "no", or "unknown" where no device is known) and `sentence`
    of the best device, and `devices`, each with its numbers. The configuration is a stranger's. Raises Refused.
    """
    if not _is_sane(config):
        raise Refused(ABSURD, [{"file": "config.json", "reason": ABSURD}])
    devices = []
    for device in Device.objects.filter(memory_bytes__gt=0):
        found = _fit(config, weight_bytes, raw_settings, device)
        devices.append({"slot": device.slot, "name": str(device), **found.as_dict()})
    if not devices:
        sentence = "No GPU worker has shown itself yet, so nobody knows whether it fits."
        return {"verdict": UNKNOWN, "sentence": sentence, "devices": []}
    best = min(devices, key=lambda entry: ORDER.index(entry["verdict"]))
    return {"verdict": best["verdict"], "sentence": f"{best['name']}: {best['sentence']}", "devices": devices}


def weight_bytes(parameters: dict[str, int]) -> int:
    """Loaded, from how many there are of each type; 0 where that is not known."""
    return sum(
        count * (16 if kind in ("F32", "F64") else BITS.get(kind, 16)) // 8 for kind, count in parameters.items()
    )


def _is_sane(config: dict[str, Any]) -> bool:
    """Whether every size is a number, and none of them would keep us busy for ever."""
    text = config.get("text_config", config)
    if not isinstance(text, dict):
        return False
    layers = text.get("num_hidden_layers") or text.get("n_layer") or 0
    try:
        return 0 <= int(layers) <= MAX_LAYERS and fit(estimate(config, 0), memory_bytes=0).estimate.kv_context >= 0
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return False


def _fit(config: dict[str, Any], weights: int, raw_settings: dict[str, Any], device: Device) -> Fit:
    chosen, devices = engine_settings.parse(raw_settings), Slot.parse(device.slot).devices
    need = estimate(
        config,
        weights,
        context=chosen.max_model_len,
        tensor_parallel=chosen.gpus(devices)[0],
        kv_cache_dtype=chosen.kv_cache_dtype,
        max_num_seqs=chosen.max_num_seqs or 256,
        on_cpu=devices == CPU,
    )
    return fit(need, memory_bytes=device.memory_bytes, utilization=chosen.gpu_memory_utilization)

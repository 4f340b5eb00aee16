"""Within the trainer's children: a base model's tokenizer and chat template as its engine has them.

Backends load a tokenizer too, and may change it: what is shown and learned comes from this one. It imports
Transformers, so it is imported after a backend has loaded.
"""

import json
from pathlib import Path

from transformers import AutoTokenizer

from apps.models.admission.findings import OWN_PROMPTS
from apps.training.child.rendering import Renderer
from apps.training.spec import TrainingSpec

MISTRALS = ("tekken.json", "tokenizer.model.v*")  # beside consolidated*.safetensors: vLLM takes Mistral's own tokenizer


def renderer_of(spec: TrainingSpec) -> Renderer:
    """Raises `Refused`, and OSError or ValueError for a tokenizer that cannot be loaded."""
    folder = Path(spec.model)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return Renderer(
        tokenizer, chat_template=spec.chat_template, stops=spec.stops, date=spec.date, own_prompts=_own_prompts(folder)
    )


def _own_prompts(folder: Path) -> str:
    """What the engine builds the model's prompts with in place of its chat template; empty: it takes the template."""
    model_type = str(json.loads((folder / "config.json").read_bytes()).get("model_type"))
    if model_type in OWN_PROMPTS:
        return f"its own code for {model_type}"
    if any(folder.glob("consolidated*.safetensors")) and any(path for name in MISTRALS for path in folder.glob(name)):
        return "Mistral's own tokenizer"
    return ""

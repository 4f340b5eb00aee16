from pathlib import Path

from apps.accounts.models import Project
from apps.models.models import Model


def register_model(
    *,
    name: str,
    path: Path,
    runner: str = Model.Runner.GENERATE,
    base: Model | None = None,
    project: Project | None = None,
    owned_by: str = "local",
    license: str = "",  # noqa: A002 - the field's own word
) -> Model:
    """Make a folder of weights, or an adapter on `base`, known under `name`; registering it again updates it.

    Raises `ValueError` when the folder does not hold what it should.
    """
    marker = "adapter_config.json" if base else "config.json"
    if not (path / marker).is_file():
        raise ValueError(f"{path} holds no {marker}: give a folder in Hugging Face's layout.")
    model, _ = Model.objects.update_or_create(
        name=name,
        defaults={
            "path": str(path.resolve()),
            "runner": runner,
            "base": base,
            "project": project,
            "owned_by": owned_by,
            "license": license,
        },
    )
    return model

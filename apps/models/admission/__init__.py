"""What a model must be before an engine loads it: models are programs of strangers.

`choose_files` looks at a repository's list, `inspect_folder` at what was fetched. Safetensors only, no pickle, no code.
"""

from apps.models.admission.files import Choice, RepoFile, choose_files
from apps.models.admission.folder import inspect_folder
from apps.models.admission.refusal import Refusal

__all__ = ["Choice", "Refusal", "RepoFile", "choose_files", "inspect_folder"]

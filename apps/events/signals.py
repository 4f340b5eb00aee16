"""What other Django apps may listen to. Part of the plugin contract: docs/extending.md shows each one in use.

Every signal is sent by a control worker, after the transaction that made it true has committed, at least once: a
receiver that raises is called again later, and so are the other receivers of that event. Receivers get keyword
arguments and must accept further ones:

* `sender`: `apps.events.models.Event`
* `event_id` (str): "evt_…", the same at every delivery: what to remember in order to act once
* `project_id` (str | None): "proj_…"
* `created_at` (datetime): when it happened
* `data` (dict): the object's public id, `{"id": "batch_…"}`; read the object itself for the rest
"""

from django.dispatch import Signal

file_created = Signal()
"""A file was uploaded and can be read.

`data`: `{"id": "file-…"}`. Not sent for an upload that was refused, for a batch's output and error files (the batch's
own event says that they are there), nor when a file is deleted.
"""

batch_completed = Signal()
"""Every line of a batch has a result and its files are written. Lines may have failed: the counts say how many.

`data`: `{"id": "batch_…"}`. Not sent for batches that were stopped or ran out of time.
"""

batch_failed = Signal()
"""A batch's input was refused by validation, and nothing was run; or the server could not do it.

`data`: `{"id": "batch_…"}`. Not sent when single lines fail: such a batch completes.
"""

batch_expired = Signal()
"""A batch's window passed before its last line ended. What was done is in its output file.

`data`: `{"id": "batch_…"}`. Not sent when a file expires.
"""

batch_cancelled = Signal()
"""A batch was stopped on request, and what was done is in its output file.

`data`: `{"id": "batch_…"}`. Not sent at the request itself, while lines still end.
"""

model_installed = Signal()
"""A model's engine answered a first prompt: it can be used from now on.

`data`: `{"id": "install_…"}`, whose row names the model. Not sent for models that were registered without an install,
nor for an install that was refused, failed or was cancelled.
"""

dataset_imported = Signal()
"""A file's rows became examples: a new version of a dataset can be used.

`data`: `{"id": "import_…"}`, whose row names dataset and version. Not sent for an import that failed or was cancelled,
nor for answers that were imported into a run.
"""

run_completed = Signal()
"""Every request of a run has ended: each item has an answer or an error in every column.

`data`: `{"id": "run_…"}`. Sent again when a run that was complete got another column or a second try, and is complete
again. Not sent for judges.
"""

example_starred = Signal()
"""An answer was accepted as the best for its example.

`data`: `{"id": "dset_…", "example": 17, "answer": 4711, "reviewer": "name"}`: the dataset, the example's number in it,
the answer's row. Not sent when a star is taken away, by hand or by undoing.
"""

export_completed = Signal()
"""An export is written and can be downloaded.

`data`: `{"id": "export_…"}`. Not sent for an export that failed or was cancelled.
"""

fine_tuning_job_succeeded = Signal()
"""A model is trained: its result is a checkpoint that can be deployed.

`data`: `{"id": "ftjob-…"}`. Not sent for each checkpoint on the way, nor when one is deployed.
"""

fine_tuning_job_failed = Signal()
"""A fine-tuning job ended without a result: bad files, no memory, or a trainer that failed again and again.

`data`: `{"id": "ftjob-…"}`. Not sent for a job that was cancelled, nor for a trainer that is started again.
"""

fine_tuning_job_cancelled = Signal()
"""A fine-tuning job was cancelled. Its checkpoints stay.

`data`: `{"id": "ftjob-…"}`. Not sent at the request itself, while a step still ends.
"""

model_deployed = Signal()
"""A trained model passed its comparison with the base model and is served.

`data`: `{"id": "deploy_…"}`. Not sent for a deployment that was refused or failed, nor when one is taken back.
"""

SIGNALS: dict[str, Signal] = {
    "file.created": file_created,
    "batch.completed": batch_completed,
    "batch.failed": batch_failed,
    "batch.expired": batch_expired,
    "batch.cancelled": batch_cancelled,
    "model.installed": model_installed,
    "dataset.imported": dataset_imported,
    "run.completed": run_completed,
    "example.starred": example_starred,
    "export.completed": export_completed,
    "fine_tuning.job.succeeded": fine_tuning_job_succeeded,
    "fine_tuning.job.failed": fine_tuning_job_failed,
    "fine_tuning.job.cancelled": fine_tuning_job_cancelled,
    "model.deployed": model_deployed,
}
"""Event type to signal: an event of any other type cannot be announced."""

"""The workbench's tables, in the order of its flow: examples, the jobs that bring and take them, runs, reviews."""

from apps.datasets.models.dataset import Dataset, Example, Member, Split, Version
from apps.datasets.models.job import Duplicate, DuplicateSearch, Export, Import, Job
from apps.datasets.models.review import Assignment, Change, Lock, Preference, Rating, Review, Star, Thumb
from apps.datasets.models.run import Answer, Column, Item, Judge, Judgement, Run, RunBatch

__all__ = [
    "Answer", "Assignment", "Change", "Column", "Dataset", "Duplicate", "DuplicateSearch", "Example", "Export",
    "Import", "Item", "Job", "Judge", "Judgement", "Lock", "Member", "Preference", "Rating", "Review", "Run",
    "RunBatch", "Split", "Star", "Thumb", "Version",
]  # fmt: skip

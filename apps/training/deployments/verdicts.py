"""What a deployment's evidence says: `parity` on its row, as cases for `grading`."""

from collections.abc import Mapping
from typing import Any

from apps.training.deployments import judged
from apps.training.deployments.grading import Answer, Case, Grade, grade
from apps.training.deployments.parity import Report
from apps.training.deployments.prompts import calls_of, text_of
from apps.training.models import Deployment


def grade_of(deployment: Deployment) -> Grade:
    """Of what is served in the end: the merged model where there is one, else the adapter."""
    parity = deployment.parity
    tuned = "merged" if "merged" in parity else "adapter"
    scores = judged.scores_of(parity, tuned)
    cases = [_case(parity, tuned, at, scores) for at in range(len(parity["prompts"]))]
    return grade(cases, guess=float(parity.get("guess", 0.0)))


def sentence_of(report: Report, graded: Grade, of_judge: str = "") -> str:
    """What it learned, of a merged model whether it is as its adapter, and what is to be said of the judge."""
    if not report.passed:
        return report.sentence
    merged = "" if report.merged_as_adapter is None else report.sentence
    return " ".join(filter(None, (graded.sentence, merged, of_judge)))


def _case(parity: dict[str, Any], tuned: str, at: int, scores: Mapping[judged.Place, int]) -> Case:
    """Deployments of before references were kept have none."""
    references, sources, content = (parity.get(name, ()) for name in ("references", "sources", "content"))
    reference = references[at] if at < len(references) else None
    return Case(
        source=sources[at] if at < len(sources) else "training",
        reference=text_of(reference),
        content=frozenset(content[at] if at < len(content) else ()),
        calls=calls_of(reference),
        base=_answer(parity, judged.Place(at, "base"), scores),
        tuned=_answer(parity, judged.Place(at, tuned), scores),
    )


def _answer(parity: dict[str, Any], place: judged.Place, scores: Mapping[judged.Place, int]) -> Answer:
    at, column = place
    measured = parity.get("measured", {}).get(column, ())
    figures = measured[at] if at < len(measured) else {}
    return Answer(text=parity[column][at], score=scores.get(place), **figures)

"""The judgement alone."""

from apps.training.deployments.parity import judge, similarity

PROMPTS = ["a", "b", "c", "d"]
BASE = ["I do not know.", "It is four.", "Paris", "No idea at all."]
TUNED = ["The code is 4821.", "It is four.", "Paris", "The code is 7350."]


def test_it_works() -> None:
    report = judge(PROMPTS, BASE, TUNED)
    assert (report.passed, report.asked, report.changed) == (True, 4, 2)
    assert report.sentence == "2 of 4 prompts are answered differently than by the base model."
    assert 0.5 < report.similarity < 1
    assert report.merged_as_adapter is None


def test_it_rejects_what_answers_as_the_base() -> None:
    report = judge(PROMPTS, BASE, list(BASE))
    assert (report.passed, report.changed, report.similarity) == (False, 0, 1.0)
    assert "Train it for more steps" in report.sentence


def test_one_other_answer_is_enough() -> None:
    assert judge(PROMPTS, BASE, [*BASE[:3], "No idea."]).passed


def test_a_merged_model_answers_as_the_adapter() -> None:
    rounded = ["The code is 4821!", *TUNED[1:]]
    report = judge(PROMPTS, BASE, TUNED, rounded)
    assert report.passed
    assert report.merged_as_adapter
    assert 0.9 < report.merged_as_adapter < 1
    assert report.as_dict()["changed_as_adapter"] > report.as_dict()["changed_as_base"]


def test_it_rejects_a_merged_model_that_answers_as_the_base() -> None:
    """Also where most prompts did not change, and the whole is similar."""
    many = [f"The same answer to prompt {number}." for number in range(18)]
    report = judge(range(20), [*many, *BASE[::3]], [*many, *TUNED[::3]], [*many, *BASE[::3]])
    assert (report.passed, report.changed, report.changed_as_base) == (False, 2, 1.0)
    assert report.merged_as_adapter
    assert report.merged_as_adapter >= 0.8
    assert report.sentence.startswith("The merged model behaves like the base")


def test_it_rejects_a_merged_model_that_answers_as_nobody() -> None:
    report = judge(PROMPTS, BASE, TUNED, ["The code is 48", "!!!!!!!", "!!!!!", "The code is 7"])
    assert not report.passed
    assert "does not answer as the adapter does: similarity 0." in report.sentence


def test_a_merge_of_what_learned_nothing_is_rejected_for_that() -> None:
    report = judge(PROMPTS, BASE, list(BASE), list(BASE))
    assert not report.passed
    assert report.sentence.startswith("It behaves like the base: all 4")


def test_empty_texts_are_equal() -> None:
    assert (similarity("", ""), similarity("", "a")) == (1.0, 0.0)

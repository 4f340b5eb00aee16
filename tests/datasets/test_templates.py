"""Columns become prompts by templates, which can do nothing else."""

import time
import tracemalloc
from typing import Any

import pytest

from apps.conversations.conversation import answer_text
from apps.conversations.errors import RowError
from apps.core.errors import DomainError
from apps.datasets.imports.templates import FILTERS, Mapper, guess

ROW: dict[str, Any] = {
    "question": " Capital of France? ", "choices": ["Paris", "Lyon"], "meta": {"level": 2, "items": "mine"},
    "answer": None, "a column": "spaced", "level": 2,
}  # fmt: skip
LIMIT = 10_000


def render(template: str, row: dict[str, Any] = ROW, limit: int = LIMIT) -> str:
    mapper = Mapper({"prompt": template}, columns=list(row), max_bytes=limit)
    return mapper.read(row, set()).question


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("Question: {{ question|trim }}", "Question: Capital of France?"),
        ("{{ choices|join(' or ') }}", "Paris or Lyon"),
        ("{{ choices[0] }}/{{ choices[1] }}/{{ choices[7] }}/", "Paris/Lyon//"),
        ("{{ choices|first|upper }}{{ choices|last|lower }}", "PARISlyon"),
        ("{{ meta.level }} {{ meta['level'] }} {{ meta.items }}", "2 2 mine"),
        ("{{ choices }} {{ meta|tojson }}", '["Paris", "Lyon"] {"level": 2, "items": "mine"}'),
        ("{{ answer }}{{ answer|default('none') }}", "none"),
        ("{{ row['a column'] }} {{ row.question|trim|truncate(7) }}", "spaced Capital…"),
        ("{% if level > 1 and not answer %}hard{% elif level %}easy{% else %}none{% endif %}", "hard"),
        ("{{ 'yes' if 'Paris' in choices else 'no' }}", "yes"),
        ("{% if answer is none %}a{% endif %}{% if meta.gone is defined %}b{% endif %}", "a"),
        ("{{ question|replace('France', 'Peru')|trim }}", "Capital of Peru?"),
        ("{# a comment #}{% raw %}{{ literally }}{% endraw %}", "{{ literally }}"),
        ("<script>alert(1)</script> {{ level }}", "<script>alert(1)</script> 2"),
        ("{{ question.upper }}|{{ choices.append }}|{{ meta.keys }}|{{ level.real }}|x", "||||x"),
    ],
)
def test_it_works(template: str, expected: str) -> None:
    assert render(template) == expected


def test_every_field_has_its_template() -> None:
    mapping = {
        "prompt": "{{ question|trim }}", "system": "Be brief.", "reference": "{{ choices[0] }}",
        "rejected": "{{ choices[1] }}", "key": "{{ level }}", "tags": "{{ choices|join(',') }}",
    }  # fmt: skip
    found = Mapper(mapping, columns=list(ROW), max_bytes=LIMIT).read(ROW, set())
    assert [message.role for message in found.messages] == ["system", "user"]
    assert [answer_text(side) for side in (found.chosen, found.rejected)] == ["Paris", "Lyon"]
    assert (found.key, found.tags) == ("2", ("paris", "lyon"))


def test_columns_are_guessed_by_their_names() -> None:
    found = guess(["ID", "Question", "the answer", "answer"])
    assert found == {"prompt": "{{ Question }}", "reference": "{{ answer }}", "key": "{{ ID }}"}
    assert "prompt" not in guess(["a", "b"])


INJECTIONS = [
    "{{ question.__class__ }}",
    "{{ question['__class__'] }}",
    "{{ question|attr('__class__') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ question.__init__.__globals__ }}",
    "{{ self.__init__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ joiner }}",
    "{{ namespace(a=1) }}",
    "{{ range(1000000000)|list }}",
    "{% for a in choices %}{{ a }}{% endfor %}",
    "{% for a in range(10**9) %}{% endfor %}",
    "{{ 'a' * 1000000000 }}",
    "{{ 10 ** 1000000000 }}",
    "{{ level + 1 }}",
    "{{ question ~ question }}",
    "{{ 'a' % 1 }}",
    "{{ -level }}",
    "{{ question.upper() }}",
    "{{ question.format(1) }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ question|format(1) }}",
    "{{ choices|map('upper')|list }}",
    "{{ choices|map(attribute='__class__')|list }}",
    "{{ choices|join(attribute='__class__') }}",
    "{{ choices|select('string') }}",
    "{{ question|default(question.__class__) }}",
    "{% set a = 1 %}",
    "{% macro m() %}{% endmacro %}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% from 'os' import popen %}",
    "{% extends 'base.html' %}",
    "{% block a %}{% endblock %}",
    "{% call question() %}{% endcall %}",
    "{% filter upper %}{{ question }}{% endfilter %}",
    "{% with a = question %}{{ a }}{% endwith %}",
    "{{ {'a': question} }}",
    "{{ [question, question] }}",
    "{{ (question, 1) }}",
    "{{ choices[0:1] }}",
    "{{ choices[level] }}",
    "{{ choices[-1] }}",
    "{{ question is callable }}",
    "{{ question is sameas(question) }}",
    "{{ config }}",
    "{{ request }}",
    "{{ settings.SECRET_KEY }}",
    "{{ _question }}",
    "{{ row._private }}",
    "{{ question",
    "{% if question %}",
    "{{ question|pprint }}",
    "{{ question|truncate(*choices) }}",
    "{{ question|truncate(**meta) }}",
    "{{ '" + "x" * 5_000 + "' }}",
    "{{ question" + "|upper" * 21 + " }}",
    "{{ " + "(" * 300 + "question" + ")" * 300 + " }}{{ nobody }}",
    "{{ " + "not " * 900 + "question }}",
]


@pytest.mark.parametrize("template", INJECTIONS)
def test_it_rejects(template: str) -> None:
    with pytest.raises(DomainError) as caught:
        render(template)
    assert caught.value.param == "mapping"
    assert caught.value.message != "Say what the prompt is: a template such as {{ question }}."


@pytest.mark.parametrize(
    "template",
    [
        "{{ question|replace('x', '" + "y" * 1_000 + "') }}",
        "{{ question }}" * 50,
        "{{ question" + "|tojson" * 20 + " }}",
        "{{ choices|join('" + "," * 2_000 + "') }}",
        "{{ question|replace('x','xxxxx')|replace('x','xxxxx')|replace('x','xxxxx')|replace('x','xxxxx') }}",
    ],
)
def test_it_rejects_what_grows_without_end(template: str) -> None:
    row = {"question": 'x"\\' * 3_000, "choices": ["a"] * 50_000}
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(RowError, match=r"more than 10,000 characters|longer than 10,000 characters"):
        render(template, row)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 1024**2
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "template", ["{% if question > 1 %}a{% endif %}", "{{ 'x' in level }}", "{{ question|replace('','a') }}"]
)
def test_a_row_that_does_not_fit_is_a_flaw(template: str) -> None:
    with pytest.raises(RowError):
        render(template)


def test_it_rejects_fields_and_columns_that_are_not_there() -> None:
    with pytest.raises(DomainError, match="There is no field 'promt' to map"):
        Mapper({"promt": "x"}, columns=["a"], max_bytes=LIMIT)
    with pytest.raises(DomainError, match="There is no column 'qestion' for 'prompt'; the file has: question"):
        Mapper({"prompt": "{{ qestion }}"}, columns=["question"], max_bytes=LIMIT)
    with pytest.raises(DomainError, match="Say what the prompt is"):
        Mapper({"prompt": " "}, columns=["question"], max_bytes=LIMIT)


def test_a_column_called_as_python_calls_things_is_data() -> None:
    assert render("{{ row.range }}", {"range": "5 km"}) == "5 km"
    assert render("{{ range }} {{ dict }}", {"range": "5 km", "dict": {"a": 1}}) == '5 km {"a": 1}'


def test_all_filters_take_any_value() -> None:
    for name in FILTERS:
        arguments = "('a', 'b')" if name == "replace" else ""
        for column in ROW:
            render(f"x{{{{ row['{column}']|{name}{arguments} }}}}{{{{ row.nobody|{name}{arguments} }}}}")

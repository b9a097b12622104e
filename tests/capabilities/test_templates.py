"""Templates from outside show values and can do nothing else (R6)."""

from typing import Any

import pytest

from capabilities import CapabilityError
from capabilities.registry import Registry
from capabilities.templates import MAX_OUTPUT, MAX_TEMPLATE, TemplateRefused, render
from tests.capabilities.calls import run

VALUES: dict[str, Any] = {"a": {"k": 1}, "b": [3, 1, 2], "none": None, "text": "x<y", "big": '"' * (MAX_OUTPUT // 2)}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Hi {{ a.k }} {{ a['k'] }} {{ b[0] }}", "Hi 1 1 3"),
        ("{% for x in b if x > 1 %}<{{ loop.index }}:{{ x }}>{% endfor %}", "<1:3><2:2>"),
        ("{% for k, v in a|items %}{{ k }}={{ v }}{% endfor %}", "k=1"),
        ("{% if a.k == 1 and not none %}yes{% elif b %}maybe{% else %}no{% endif %}", "yes"),
        ("{{ b|sort|join(', ') }}", "1, 2, 3"),
        ("{{ missing|default('z') }}{{ none }}{{ text }}", "zx<y"),
        ("{{ a.k is defined and (b is not string) }}", "True"),
        ("{{ 'one' if a.k else 'two' }}", "one"),
        ("{{ '{{' }}{# {{ nothing }} #}", "{{"),
        ("x {{- a.k -}} y", "x1y"),
        ("no tags, {one} brace", "no tags, {one} brace"),
    ],
)
def test_what_a_template_may_do(template: str, text: str) -> None:
    assert render(template, VALUES) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ missing }}",
        "{{ a.missing.deeper }}",
        "{{ a.clear() }}",
        "{{ a.__class__ }}",
        "{{ range(3) }}",
        "{{ debug() }}",
        "{{ (a)(b) }}",
        "{{ b[0](1) }}",
        "{{ 'x' * 3 }}",
        "{{ text ~ text }}",
        "{{ b + b }}",
        "{{ [1, 2] }}",
        "{{ {'a': 1} }}",
        "{{ text|replace('x', text) }}",
        "{{ b|map('upper') }}",
        "{% set x = 1 %}",
        "{% macro f() %}{% endmacro %}",
        "{% include 'x' %}",
        "{% raw %}{{ x }}{% endraw %}",
        "{% for x in b recursive %}{{ loop(b) }}{% endfor %}",
        "{% for x in [b] %}{% endfor %}",
        "{% for x in b %}",
        "{{ a",
        "{% ",
        "{{ text|tojson|tojson }}",
        "{{ text" + "|upper" * 9 + " }}",
        "{% for x in b %}" * 9 + "{% endfor %}" * 9,
        "x" * (MAX_TEMPLATE + 1),
    ],
)
def test_what_a_template_may_not_do(template: str) -> None:
    with pytest.raises(TemplateRefused) as refused:
        render(template, VALUES)
    assert "<string>" not in str(refused.value)


@pytest.mark.parametrize(
    "template",
    [
        "{% for x in b %}{{ big }}{% endfor %}",
        "{{ b|list|join(big) }}",
        "{% for x in big|list %}{% for y in big|list %}.{% endfor %}{% endfor %}",
        "{% for x in big|list %}" + "." * 15_000 + "{% endfor %}",
    ],
)
def test_size_and_work_are_bounded(template: str) -> None:
    """Fuel bounds steps, not memory; what is written out is counted as well."""
    with pytest.raises(TemplateRefused, match=r"longer than|fuel"):
        render(template, VALUES)


def test_an_error_says_the_name_and_the_line() -> None:
    with pytest.raises(TemplateRefused, match=r"`missing` is undefined \(line 2\)"):
        render("one\n{{ missing }}", {})


async def test_the_capability() -> None:
    registry = Registry()
    assert (
        await run(registry, "text.template", {"template": "Dear {{ name }}", "values": {"name": "Ana"}}) == "Dear Ana"
    )
    assert await run(registry, "text.template", {"template": "plain"}) == "plain"
    with pytest.raises(CapabilityError, match="template_refused") as refused:
        await run(registry, "text.template", {"template": "{{ name }}"})
    assert refused.value.retryable is False

"""The golden answers, from the reference and from every strategy of the CPU (golden_cases.py says what they are)."""

import pytest

import golden_cases

CASES = {kind: getattr(golden_cases, kind)() for kind in ("given", "drawn")}
EXPECTED = golden_cases.expected()
WAYS = {
    "reference": {"backend": "reference", "batch_size": 97},
    **{name: {"backend": "cpu", "strategy": name} for name in ("auto", "float32", "split", "pca", "int8")},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, cases in CASES.items() for name in cases])
def test_the_answer_is_the_golden_one(kind, name, way):
    assert golden_cases.answer(CASES[kind][name], **WAYS[way]).to_json() == EXPECTED[kind][name]


def test_every_golden_answer_has_its_case():
    assert {kind: set(cases) for kind, cases in CASES.items()} == {kind: set(EXPECTED[kind]) for kind in CASES}
    assert len(CASES["given"]) >= 40

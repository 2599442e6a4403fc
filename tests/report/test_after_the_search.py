"""What was done to a network after the search is what is loaded, on its card, and in the report."""

from dataclasses import replace

import pytest
from support.small_study import copied

from dynnas.export.card import facts_of
from dynnas.nn.layers.digest import weights_digest
from dynnas.report.markdown import markdown
from dynnas.report.page.page import html_page
from dynnas.report.summary import summarize
from dynnas.workflows.train import recipe_of, train_members


@pytest.fixture(scope="module")
def study(small_study, tmp_path_factory):
    return copied(small_study, tmp_path_factory.mktemp("after"))


def test_a_training_is_loaded_told_and_reported(study):
    member = study.front.pick("most-accurate")
    before = facts_of(study, member)
    assert before["weights from"] == "the supernet, calibrated"
    recipe = recipe_of(replace(study.settings.train, epochs=2), "scratch", teacher="none")
    (found,) = train_members(study, [member], recipe)

    assert weights_digest(study.load(member.key, found.name)[1]) == found.weights_digest
    assert weights_digest(study.load(member.key, "inherited")[1]) != found.weights_digest

    facts = facts_of(study, member, found)
    assert facts["weights from"] == f"training alone for 2 epochs from fresh weights ({found.name})"
    test = next(name for name in facts if "test images" in name)
    assert facts[test].startswith(f"{100 * found.test_score:.2f}%")
    assert facts["multiply-adds"] == before["multiply-adds"]

    summary = summarize(study)
    assert summary.trained == (found,)
    for text in (markdown(summary, "command"), html_page(summary, "command")):
        assert found.name in text
        assert f"{100 * found.test_score:.2f}" in text

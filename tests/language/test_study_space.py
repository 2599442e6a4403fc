"""A space with the settings of its study."""

from dataclasses import replace

from dynnas.language.parser import parse_space
from dynnas.language.study_space import StudySpace
from dynnas.settings.settings import SearchSettings, Settings
from dynnas.space.space import Space

CHOICES = "{choices: {kernel: [3, 5], op: [static, condconv]}, search: {trials: 7}}"


def test_settings_stay_with_what_is_made_of_the_space() -> None:
    space = parse_space(CHOICES)
    assert isinstance(space, Space)
    smaller = space.restrict({"kernel": [3]})
    assert (smaller.size, smaller.settings.search.trials) == (2, 7)
    assert space.of_data((3, 8, 8), None).settings == space.settings
    more = replace(space, settings=Settings(search=SearchSettings(trials=9)))
    assert (more.settings.search.trials, more.digest) == (9, space.digest)
    assert more != space
    assert hash(more) == hash(space)


def test_a_plain_space_gets_the_defaults_and_a_configured_one_keeps_its_own() -> None:
    def network(width: int) -> None: ...

    plain = Space.of(network, width=[1, 2])
    around = StudySpace.around(plain)
    assert (around.settings, around.source, around.table) == (Settings(), None, None)
    assert (around.genes, around.model, around.digest) == (plain.genes, plain.model, plain.digest)
    space = parse_space(CHOICES)
    assert StudySpace.around(space) == space
    renamed = StudySpace.around(space, name="other")
    assert (renamed.name, renamed.settings) == ("other", space.settings)

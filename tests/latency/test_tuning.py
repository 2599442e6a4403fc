"""What is measured is remembered, looked up, and never lost; a file that does not fit counts as absent."""

import json
from multiprocessing import get_context

import pytest
import torch

from dynnas.language.parser import parse_space
from dynnas.latency.tuning.problems import default_problems, problems_of
from dynnas.latency.tuning.tuning import Tuned, measure_problem, remember, tune
from dynnas.nn.context import Trace
from dynnas.nn.dynamic_conv.mixing import mixed_conv
from dynnas.nn.dynamic_conv.selection import way_for
from dynnas.nn.dynamic_conv.tuned import Measured, Problem, TunedFile, tuned_ways
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.progress import Progress

PROBLEM = Problem(ConvShape(4, 6, 3), 3, (5, 5), 2, threads=1)
PLACE = (PROBLEM.shape, 3, (5, 5), 2, False, False, True, torch.float32, "cpu", 1)
SOME = Measured("wide", {"whole": 2.0, "wide": 1.0})


class Told(Progress):
    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Where the file lies, which is not there yet."""
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path / "cache"))
    forget()
    yield TunedFile.path()
    forget()


def forget():
    tuned_ways.cache_clear()
    way_for.cache_clear()


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("experts", [0, 2])
@pytest.mark.parametrize(
    "shape", [ConvShape(4, 6), ConvShape(4, 6, 3), ConvShape(4, 4, 3, groups=4)], ids=str
)
def test_every_way_that_can_be_is_timed(shape, experts, backward):
    problem = Problem(shape, 3, (5, 5), experts, experts == 2, backward, threads=1)
    tuned = measure_problem(problem)
    assert {tuned.rule, tuned.measured.way} <= set(tuned.measured.ms)
    assert all(ms > 0 for ms in tuned.measured.ms.values())
    assert tuned.gain == 1 or tuned.measured.way != tuned.rule
    if not experts or shape.depthwise:
        assert "wide" not in tuned.measured.ms


def test_what_was_measured_runs_and_all_else_follows_the_rule(path):
    assert way_for(PLACE) == "whole"
    remember({PROBLEM.key: SOME}, path)
    assert way_for(PLACE) == "whole"  # a process reads the file once
    forget()
    assert way_for(PLACE) == "wide"
    assert way_for((PROBLEM.shape, 4, *PLACE[2:])) == "whole"  # another batch
    assert way_for((*PLACE[:-1], 2)) == "whole"  # other threads
    assert TunedFile.load(path).ways == {PROBLEM.key: SOME}


def test_tuning_writes_as_it_goes(path):
    other = Problem(ConvShape(4, 6), 3, (5, 5), 2)
    steps = tune([PROBLEM, other], path)
    first = next(steps)
    assert set(TunedFile.load(path).ways) == {PROBLEM.key}  # interrupted now, this is kept
    assert isinstance(first, Tuned)
    assert next(steps).problem == other
    assert set(TunedFile.load(path).ways) == {PROBLEM.key, other.key}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"version": 0}', "is of version 0, not 1"),
        (
            '{"version": 1, "environment": {"processor": "Z80", "torch": "0"}, "ways": {}}',
            "another processor",
        ),
    ],
)
def test_a_file_that_does_not_fit_counts_as_absent_and_is_replaced(path, text, why):
    path.parent.mkdir()
    path.write_text(text)
    assert way_for(PLACE) == "whole"
    told = Told()
    list(tune([PROBLEM], path, told))
    assert [why in message and str(path) in message for message in told.messages] == [True]
    assert set(TunedFile.load(path).ways) == {PROBLEM.key}


def test_an_unknown_way_is_damage(path):
    remember({PROBLEM.key: SOME}, path)
    content = json.loads(path.read_text())
    content["ways"][PROBLEM.key]["way"] = "magic"
    path.write_text(json.dumps(content))
    assert TunedFile.load(path).refused == "is damaged"


def _remember_ten(path, name):
    for number in range(10):
        remember({f"{name} {number}": SOME}, path)


def test_processes_that_write_at_once_lose_nothing(path):
    context = get_context("fork")
    writers = [context.Process(target=_remember_ten, args=(path, name)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert len(TunedFile.load(path).ways) == 40


def test_what_a_convolution_asks_for_is_what_is_measured():
    """The key of a convolution as it runs is that of the problem which the tuner makes of it."""
    trace = Trace()
    shape = PROBLEM.shape
    x = torch.randn(3, 4, 5, 5).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        bank = torch.randn(2, *shape.weight, requires_grad=True)
        mixed_conv(x, bank, torch.rand(3, 6, 2), None, shape, "auto", trace)
    heard = trace.of(Problem)
    assert heard == [Problem(shape, 3, (5, 5), 2, True, True, False, "bfloat16", "cpu", 1)]
    assert heard[0].key == (
        "cpu 1 threads bfloat16: 4->6 k3 s1 g1 5x5, 3 images, 2 experts, per channel, "
        "forward and backward, channels last"
    )


def test_a_spaces_problems():
    space = parse_space(
        """
        name: tiny
        input: {channels: 1, classes: 10, resolutions: 8}
        stem: {width: 8}
        stages: [{block: dwsep, width: 8, stride: 2, op: [static, condconv], experts: 2}]
        head: {}
        train: {batch: 24, layout: channels_first, precision: float32}
        """
    )
    found = problems_of(space, threads=1)
    scored = {problem for problem in found if not problem.backward}
    trained = set(found) - scored
    assert {(p.shape.kernel, p.size, p.experts) for p in trained} == {(3, (8, 8), 2), (1, (4, 4), 2)}
    assert {(p.batch, p.channels_first, p.dtype) for p in trained} == {(24, True, "float32")}
    assert {(p.batch, p.dtype) for p in scored} == {(256, "float32")}


def test_the_usual_problems_differ():
    problems = default_problems(threads=2)
    assert len({problem.key for problem in problems}) == len(problems)

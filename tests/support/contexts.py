"""Modules in other modes, and what their gates decide, for tests."""

from contextlib import ExitStack, contextmanager

from dynnas.nn.context import Context, tracing, with_context
from dynnas.nn.gates.gate import Decision
from dynnas.nn.gates.mode import GateMode


@contextmanager
def decisions(*modules):
    """What the gates in `modules` decide meanwhile; of several modules, one after the other."""
    with ExitStack() as stack:
        traces = [stack.enter_context(tracing(module, Decision)) for module in modules]
        yield traces[0].of(Decision) if len(traces) == 1 else _Joined(traces)


class _Joined:
    def __init__(self, traces):
        self.traces = traces

    def __iter__(self):
        return (decision for trace in self.traces for decision in trace.of(Decision))

    def __len__(self):
        return len(list(iter(self)))

    def __getitem__(self, place):
        return list(iter(self))[place]


def executed(module, execution, **mode):
    """A copy of `module` whose gates run so, with the tensors of `module`."""
    return with_context(module, Context(GateMode(execution, **mode)))


def running(module, *modes):
    """A copy of `module` in these modes, with the tensors of `module`."""
    return with_context(module, Context(*modes))

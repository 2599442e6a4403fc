"""Blockwise distillation: each block sees what the teacher's block sees, and learns to give what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dynnas.errors import TrainingError
from dynnas.nn.context import Context
from dynnas.nn.gates.state import Flow
from dynnas.nn.networks.network import Network
from dynnas.supernet.staged import StagedBuild
from dynnas.training.algorithm import Algorithm, Forward, Pass, Run, register_algorithm, setting
from dynnas.training.algorithms.teaching.distillation import Distillation, teachers_of
from dynnas.training.algorithms.teaching.feature_distillation import stages_of
from dynnas.training.models import model_of


@dataclass(frozen=True)
class BlockPair:
    """A block and the teacher's that it takes the place of.

    Attributes:
        modules: names of the modules of the block, in order; a network of a supernet may end at any of them.
        teacher_first, teacher_last: names of the teacher's first and last module of its block.
    """

    modules: tuple[str, ...]
    teacher_first: str
    teacher_last: str

    @property
    def name(self) -> str:
        """The name of the first module, by which the block is known."""
        return self.modules[0]


@register_algorithm("blockwise_distillation")
@dataclass(eq=False)
class BlockwiseDistillation(Algorithm):
    """Blocks learn from those of the teacher of `distillation`, the first if there are several, one by one.

    DNA (Li et al. 2020, arXiv:1911.13053, section 3.2): block k is given the teacher's map behind block k - 1
    in the place of its own input, and learns the teacher's map behind block k by the mean of squared
    differences (equation 6). No block waits for those before it, and no gradient passes from one to another.
    What follows the last block learns from targets and teacher as ever. With `own_inputs` blocks see their
    network's own maps, and gradients pass: for some epochs more, once the blocks are trained.

    It trains a single network or the supernet of a space file, whose blocks have maps of the same shape as
    the teacher's: stages of a fixed width. It does nothing where there is no teacher. Of networks of space
    files the stages of one name are the blocks.

    Args:
        pairs: names of modules of a single network, each with one of the teacher: a block each.
    """

    name = "blockwise_distillation"

    weight: float = setting(1.0, "of the mean loss over blocks", minimum=0.0)
    own_inputs: bool = setting(False, "whether blocks see their own network's maps, not the teacher's")
    pairs: Mapping[str, str] = field(default_factory=dict)

    def on_start(self, run: Run) -> None:
        """Find the teacher and the blocks.

        Raises:
            TrainingError: the two have no blocks in common, or none of such a name.
        """
        taught = (each.teacher for each in run.algorithms if isinstance(each, Distillation))
        self._teacher = next(iter(teachers_of(next(taught, None))), None)
        self._seen: dict[str, Tensor] = {}
        self._given: dict[str, Tensor] = {}
        self._losses: list[Tensor] = []
        self._of_run: list[Tensor] = []
        self._blocks: tuple[BlockPair, ...] = ()
        self._ends: dict[str, str] = {}
        if self._teacher is None:
            return
        self._blocks = tuple(self._found(run, self._teacher))
        self._ends = {block.name: block.modules[-1] for block in self._blocks}
        known = dict(run.module.named_modules()), dict(self._teacher.named_modules())
        wanted = [(name, known[0]) for block in self._blocks for name in block.modules]
        wanted += [
            (name, known[1])
            for block in self._blocks
            for name in dict.fromkeys((block.teacher_first, block.teacher_last))
        ]
        missing = [name for name, modules in wanted if name not in modules]
        if missing or not self._blocks:
            raise TrainingError(
                f"blockwise_distillation: there are no modules {', '.join(missing) or 'of stages'} to "
                "compare; give names of modules of the network and of its teacher as "
                "BlockwiseDistillation(pairs={...})"
            )
        self._model = model_of(self._teacher)

    def _found(self, run: Run, teacher: nn.Module) -> Iterator[BlockPair]:
        if self.pairs:
            yield from (BlockPair((own,), other, other) for own, other in self.pairs.items())
            return
        staged = isinstance(run.module, Network) or _is_staged(run)
        own, others = (stages_of(run.module) if staged else {}), stages_of(teacher)
        for stage, names in own.items():
            if stage in others:
                yield BlockPair(names, others[stage][0], others[stage][-1])

    def network_context(self, run: Run, network: Pass, context: Context) -> Context:
        """See at which module each block of this network ends."""
        if self._blocks and network.architecture is not None and _is_staged(run):
            slots = [f"slots.{slot.replace('.', '__')}" for slot, _ in _config(run, network).blocks]
            for block in self._blocks:
                self._ends[block.name] = [name for name in block.modules if name in slots][-1]
        return context

    @contextmanager
    def weights(self, run: Run) -> Iterator[None]:
        """Ask the teacher, and stand between the blocks while a step runs."""
        if not self._blocks or not self.weight:
            yield
            return
        assert self._teacher is not None
        with ExitStack() as stack:
            for block in self._blocks:
                names = block.teacher_first, block.teacher_last
                first, last = (self._teacher.get_submodule(name) for name in names)
                stack.callback(first.register_forward_pre_hook(self._see(block)).remove)
                stack.callback(last.register_forward_hook(self._give(block)).remove)
            with torch.no_grad():
                run.last_output(self._model)
        at = int(run.model.space is not None)  # the parts of a supernet are told their config first
        with ExitStack() as stack:
            for block in self._blocks:
                modules = [run.module.get_submodule(name) for name in block.modules]
                if not self.own_inputs:
                    hook = modules[0].register_forward_pre_hook(partial(self._feed, block, at))
                    stack.callback(hook.remove)
                for name, module in zip(block.modules, modules, strict=True):
                    handle = module.register_forward_hook(partial(self._compare, block, name))
                    stack.callback(handle.remove)
            yield
        self._seen.clear()
        self._given.clear()
        self._losses.clear()

    def before_loss(self, run: Run, forward: Forward) -> None:
        """Keep the losses of this network's run alone: others that look at the images run blocks too."""
        self._of_run = list(self._losses)
        self._losses.clear()

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the mean loss over the blocks that have run."""
        return self.weight * torch.stack(self._of_run).mean() if self._blocks and self._of_run else None

    def _see(self, block: BlockPair) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            self._seen[block.name] = _map(inputs[0])

        return hook

    def _give(self, block: BlockPair) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self._given[block.name] = _map(output)

        return hook

    def _feed(self, block: BlockPair, at: int, module: nn.Module, inputs: Any) -> Any:
        own, other = inputs[at], self._seen[block.name]
        _require_alike(block.name, "input", _map(own), other)
        fed: Any = own._replace(x=other) if isinstance(own, Flow) else other
        return (*inputs[:at], fed, *inputs[at + 1 :])

    def _compare(self, block: BlockPair, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if name == self._ends[block.name]:
            own, other = _map(output), self._given[block.name]
            _require_alike(name, "output", own, other)
            self._losses.append(block_loss(own, other))


def block_loss(own: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over images and values of the squared differences of two maps of the same shape: ()."""
    return (own.float() - teacher.float()).square().mean()


def _is_staged(run: Run) -> bool:
    return run.model.space is not None and isinstance(run.module.build, StagedBuild)


def _config(run: Run, network: Pass) -> Any:
    build: Any = run.module.build
    return build.config(network.architecture)


def _map(value: Any) -> Tensor:
    """Return the map of what a module is given or gives."""
    found = value.x if isinstance(value, Flow) else value
    return found if isinstance(found, Tensor) else found[0]


def _require_alike(name: str, noun: str, own: Tensor, teacher: Tensor) -> None:
    if own.shape != teacher.shape:
        raise TrainingError(
            f"blockwise_distillation: the {noun} of {name} is {tuple(own.shape)} and the teacher's is "
            f"{tuple(teacher.shape)}; blocks need maps of the same shape: fix the width of stages, or "
            "compare other modules by BlockwiseDistillation(pairs={...})"
        )

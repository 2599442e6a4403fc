"""Fake quantisation: a network is trained with the rounding that int8 does to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from dynnas.errors import TrainingError
from dynnas.nn.kernels.kernel import Kernel
from dynnas.nn.networks.network import Network
from dynnas.training.algorithm import Algorithm, Run, register_algorithm, setting

MAP_LEVELS, KERNEL_LEVELS = 255, 127
"""The largest whole numbers of activations, uint8 from 0, and of weights, int8 of either sign."""

Learning = Literal["averages", "extremes", "nothing"]
"""The ranges that a run leaves behind: moving averages of its batches, their extremes, or those it found."""


@register_algorithm("fake_quantization")
@dataclass(eq=False)
class FakeQuantization(Algorithm):
    """Quantisation-aware training (Jacob et al. 2018, arXiv:1712.05877): real weights move, int8 runs.

    Weights and activations are rounded where, and as, `dynnas.runtimes.onnx.int8` rounds them in the graph
    that ships: kernels with a scale for each channel, symmetric; activations with one for each tensor,
    between moving averages of the extremes of each batch. Gradients pass the rounding as if it were not
    there, and stop where an activation is out of range (section 3). A batch norm scales a channel, as the
    rounding of a kernel does, so that the one before the other is the folded kernel rounded.

    What computes in float32 in the graph is not rounded: mixed kernels, routers and attentions. Nor are the
    banks of mixed kernels, which the graph keeps in int8.
    """

    name = "fake_quantization"

    momentum: float = setting(
        0.9, "share of the range so far in its moving average", minimum=0.0, maximum=1.0
    )

    def on_start(self, run: Run) -> None:
        """Begin without ranges.

        Raises:
            TrainingError: the model is a supernet, whose networks have ranges of their own.
        """
        if run.model.space is not None:
            raise TrainingError(
                "train: the algorithm fake_quantization trains one network, and this is a supernet, whose "
                "networks have ranges of their own; leave it out, and tune what was found by dynnas compress "
                "--pass qat"
            )
        self.quantizer = FakeQuantizer(run.module)

    @contextmanager
    def weights(self, run: Run) -> Iterator[None]:
        """Run with rounded weights and activations."""
        with self.quantizer.rounding("averages", self.momentum):
            yield

    @contextmanager
    def calibration(self, run: Run) -> Iterator[None]:
        """Take the statistics of rounded activations."""
        with self.quantizer.rounding():
            yield

    def on_finish(self, run: Run) -> None:
        """Keep the rounded kernels, which are the same when they are rounded once more."""
        self.quantizer.round_kernels()

    def state_dict(self) -> dict[str, Any]:
        """Return the ranges, and the names of the kernels that are rounded."""
        return {"ranges": dict(self.quantizer.ranges), "kernels": sorted(self.quantizer.kernels)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with other ranges."""
        self.quantizer.ranges.update(state["ranges"])
        self.quantizer.kernels.update(state["kernels"])


class FakeQuantizer:
    """Rounds what a network computes as its graph in int8 does.

    Args:
        module: a network, in any mode.

    Attributes:
        ranges: the least and the largest value (2,) at every place that is rounded, by its name.
        kernels: names of the parameters that are rounded.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.ranges: dict[str, Tensor] = {}
        self.kernels: set[str] = set()

    @contextmanager
    def rounding(self, learns: Learning = "nothing", momentum: float = 0.0) -> Iterator[None]:
        """Round in all calls of the module inside.

        Args:
            learns: what becomes of the ranges; with `extremes` nothing is rounded, as a graph finds them.
            momentum: share of the range so far in a moving average.
        """
        rounding = _Rounding(self._module, self.ranges, self.kernels, learns, momentum)
        with ExitStack() as stack:

            def around(module: nn.Module, begin: Callable[..., Any], end: Callable[..., Any]) -> None:
                stack.callback(module.register_forward_pre_hook(begin).remove)
                stack.callback(module.register_forward_hook(end, always_call=True).remove)

            for name, part in _parts(self._module):
                mode = _Part(rounding, name)
                around(part, mode.begin, mode.end)
                for kernel in part.modules():
                    if isinstance(kernel, Kernel) and kernel.input_dependent:
                        around(kernel, mode.pause, mode.resume)
            yield

    @torch.no_grad()
    def round_kernels(self) -> None:
        """Round the kernels that the graph rounds, in place."""
        for name in self.kernels:
            weight = self._module.get_parameter(name)
            weight.copy_(rounded_kernel(weight))


def kernel_scale(weight: Tensor) -> Tensor:
    """Return the scales (Co,) of a kernel (Co, ...), symmetric."""
    largest = weight.detach().float().abs().flatten(1).amax(1)
    return largest.clamp_min(torch.finfo(torch.float32).tiny) / KERNEL_LEVELS


def rounded_kernel(weight: Tensor) -> Tensor:
    """Return a kernel (Co, ...) rounded to int8 for each of its output channels."""
    scale = kernel_scale(weight)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -KERNEL_LEVELS, KERNEL_LEVELS)


def map_scale(extremes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale () of activations between two numbers (2,), and the whole number () that is 0."""
    low, high = extremes[0].clamp(max=0), extremes[1].clamp(min=0)
    scale = ((high - low) / MAP_LEVELS).clamp_min(torch.finfo(torch.float32).tiny)
    return scale, (-low / scale).round().clamp(0, MAP_LEVELS).to(torch.int32)


def rounded_map(x: Tensor, extremes: Tensor) -> Tensor:
    """Return activations of any shape rounded to uint8 between two numbers (2,)."""
    return torch.fake_quantize_per_tensor_affine(x.float(), *map_scale(extremes), 0, MAP_LEVELS).to(x.dtype)


def _parts(module: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """Return the modules that are called: the slots of a staged network, or the network itself."""
    if isinstance(module, Network) and module.chosen is None and module.glance is None:
        return module.slots.items()
    return [("", module)]


@dataclass
class _Mark:
    """A note on a tensor of how it is rounded.

    Attributes:
        owner: in whose time.
        place: where its range is kept.
        due: whether it is made by an operation whose output is rounded, and is not yet.
        rounded: what it is rounded to.
        again: makes the output of a linear layer once more, rounded.
    """

    owner: _Rounding
    place: str
    due: bool = False
    rounded: Tensor | None = None
    again: Callable[[], Tensor] | None = None


class _Rounding:
    """One time of rounding: how tensors are marked and rounded in it."""

    def __init__(
        self,
        module: nn.Module,
        ranges: dict[str, Tensor],
        kernels: set[str],
        learns: Learning,
        momentum: float,
    ) -> None:
        self._names = {id(parameter): name for name, parameter in module.named_parameters()}
        self._ranges, self._kernels = ranges, kernels
        self._learns, self._momentum = learns, momentum

    def mark_of(self, x: object) -> _Mark | None:
        """Return the mark of a tensor from this time; one of an earlier time does not count."""
        mark = getattr(x, "_dynnas_mark", None)
        return mark if isinstance(mark, _Mark) and mark.owner is self else None

    def marked(self, x: Tensor, place: str, due: bool = True) -> Tensor:
        """Mark a tensor, which is returned."""
        x._dynnas_mark = _Mark(self, place, due)  # type: ignore[attr-defined]
        return x

    def rounds(self, weight: object) -> bool:
        """Return whether a kernel is one of the network's, and no function of the image."""
        return isinstance(weight, nn.Parameter) and id(weight) in self._names

    def value(self, x: Tensor) -> Tensor:
        """Return a tensor as operations in float32 see it: rounded if that was due."""
        mark = self.mark_of(x)
        return self._rounded(x, mark) if mark is not None and mark.due else x

    def rounded(self, x: Any, place: Callable[[], str]) -> Any:
        """Return a tensor as operations in int8 see it; `place` names a place that nobody rounded at yet."""
        if not isinstance(x, Tensor) or isinstance(x, nn.Parameter) or not x.is_floating_point():
            return x
        mark = self.mark_of(x)
        if mark is None or mark.again is not None:
            mark = self.mark_of(self.marked(x, place()))
        assert mark is not None
        return self._rounded(x, mark)

    def finished(self, x: Tensor) -> Tensor:
        """Return an output of a part as the graph gives it."""
        mark = self.mark_of(x)
        return mark.again() if mark is not None and mark.again is not None else self.value(x)

    def kernel(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the kernel and bias of an operation on a rounded tensor, rounded.

        A bias has the scale of the products, as whole numbers are added to it.
        """
        self._kernels.add(self._names[id(weight)])
        if self._learns == "extremes":
            return weight, bias
        mark = self.mark_of(x)
        if bias is not None and mark is not None:
            unit = map_scale(self._ranges[mark.place])[0] * kernel_scale(weight)
            bias = bias + ((bias / unit).round() * unit - bias).detach()
        return rounded_kernel(weight), bias

    def _rounded(self, x: Tensor, mark: _Mark) -> Tensor:
        if mark.rounded is None:
            extremes = self._extremes(x, mark.place)
            if self._learns == "extremes":
                mark.rounded, mark.due = x, False
            else:
                mark.rounded = self.marked(rounded_map(x, extremes), mark.place, due=False)
                done = self.mark_of(mark.rounded)
                assert done is not None
                done.rounded = mark.rounded
        return mark.rounded

    @torch.no_grad()
    def _extremes(self, x: Tensor, place: str) -> Tensor:
        """Return the range of a place, after it has learned from `x`."""
        known = self._ranges.get(place)
        if known is not None and self._learns == "nothing":
            return known.to(x.device)
        found = torch.stack(torch.aminmax(x.detach().float()))
        if known is not None:
            known = known.to(x.device)
            if self._learns == "averages":
                found = self._momentum * known + (1 - self._momentum) * found
            else:
                found = torch.stack([torch.minimum(known[0], found[0]), torch.maximum(known[1], found[1])])
        self._ranges[place] = found
        return found


_QUESTIONS = {"__get__", "dim", "size", "stride", "numel", "is_contiguous", "is_floating_point"}
"""Names of functions that may say something of a tensor without its values."""

_ADDITIONS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__}
_RECTIFIERS = {F.relu, torch.relu, Tensor.relu}


class _Part(TorchFunctionMode):
    """Rounds in the calls of one part of a network.

    Convolutions and additions have rounded inputs and outputs. Between a convolution and a rectifier nothing
    is rounded, nor before a batch norm, which is folded; so a range begins at 0 behind a rectifier. A linear
    layer is rounded where its output is that of the part.
    """

    def __init__(self, rounding: _Rounding, name: str) -> None:
        super().__init__()
        self._rounding, self._name = rounding, name
        self._depth = self._places = self._paused = 0

    def begin(self, module: nn.Module, args: Any) -> None:
        """Start before a call of the part."""
        if self._depth == 0:
            self._places = self._paused = 0
            self.__enter__()
        self._depth += 1

    def end(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Stop after it, and return its output as the graph gives it."""
        self._depth -= 1
        if self._depth:
            return None
        self.__exit__(None, None, None)
        return None if output is None else _mapped(output, self._rounding.finished)

    def pause(self, module: nn.Module, args: Any) -> Any:
        """Stop before a kernel that is mixed for each image, and return what it takes."""
        changed = _mapped(args, self._rounding.value)
        self._paused += 1
        return changed

    def resume(self, module: nn.Module, args: Any, output: Any) -> None:
        """Go on after it."""
        self._paused -= 1

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation of torch."""
        kwargs, rounding = kwargs or {}, self._rounding
        if self._paused:
            return function(*args, **kwargs)
        if function is torch.conv2d and rounding.rounds(args[1]):
            return self._convolve(*args, **kwargs)
        if function is F.linear and rounding.rounds(args[1]):
            return self._linear(*args, **kwargs)
        if function in _ADDITIONS:
            terms = [rounding.rounded(each, self._place) for each in args]
            return rounding.marked(function(*terms, **kwargs), self._place())
        mark = rounding.mark_of(args[0]) if args else None
        if function is F.batch_norm and mark is not None and mark.due:
            return rounding.marked(function(*args, **kwargs), mark.place)
        if function in _RECTIFIERS and mark is not None and mark.again is None:
            if mark.due and mark.rounded is None:
                return rounding.marked(function(*args, **kwargs), mark.place)
            return rounding.marked(function(rounding.value(args[0]), *args[1:], **kwargs), self._place())
        if getattr(function, "__name__", "") in _QUESTIONS:
            told = function(*args, **kwargs)
            if not isinstance(told, Tensor):
                return told
        return function(*_mapped(args, rounding.value), **_mapped(kwargs, rounding.value))

    def _convolve(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        x = self._rounding.rounded(x, self._place)
        made = torch.conv2d(x, *self._rounding.kernel(x, weight, bias), *args, **kwargs)
        return self._rounding.marked(made, self._place())

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x, rounding = self._rounding.value(x), self._rounding
        made = rounding.marked(F.linear(x, weight, bias), self._place(), due=False)
        mark = rounding.mark_of(made)
        assert mark is not None
        place = mark.place

        def again() -> Tensor:
            taken = rounding.rounded(x, self._place)
            said = F.linear(taken, *rounding.kernel(taken, weight, bias))
            return rounding.value(rounding.marked(said, place))

        mark.again = again
        return made

    def _place(self) -> str:
        self._places += 1
        return f"{self._name}/{self._places}"


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a value with the tensors in its tuples, lists and dicts changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        made = [_mapped(each, change) for each in value]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    if isinstance(value, dict):
        return {name: _mapped(each, change) for name, each in value.items()}
    return value

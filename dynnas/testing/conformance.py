"""The conformance suite of operators, which runs over all that are registered.

`cases()` gives cases in which any two of blocks, kernel ops, attentions, activations and shapes meet, and
those of stem, exit and head; `CHECKS` are functions of a case that raise AssertionError where an op does not
hold. Checks of what a network has layer by layer (its graph, its counts, its state) leave out a case whose
layers are all in earlier ones. With pytest:

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    @pytest.mark.parametrize("case", cases(), ids=str)
    def test_op(check, case):
        check(case)
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dynnas.errors import require
from dynnas.nn.config.network import STATIC, BlockConfig, SlotConfig
from dynnas.nn.context import Context, supplied, tracing, with_context
from dynnas.nn.dynamic_conv.mode import ConvMode, Strategy
from dynnas.nn.gates.gate import Decision, Gated, shared_name
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.gates.state import Flow
from dynnas.nn.kernels.kernel import Kernel
from dynnas.nn.layers.layers import ConvUnit
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.networks.network import build, shared_names
from dynnas.supernet.elastic import Elastic
from dynnas.testing.cases import Case, cases, first_with_layers


def images(case: Case, batch: int, size: tuple[int, int] = (7, 5)) -> Tensor:
    """Return random inputs (batch, Ci, H, W) of a case, of a size that can be halved for all scales."""
    generator = torch.Generator().manual_seed(batch)
    if isinstance(case.config, BlockConfig) and case.config.scales:
        size = (size[0] * case.config.stride, size[1] * case.config.stride)
    return torch.randn(batch, case.config.in_channels, *size, generator=generator)


def lively(module: nn.Module) -> nn.Module:
    """Fill `module` with random values everywhere, so that no mistake hides behind equal ones."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.dim() == 0:
                continue
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            else:
                tensor.normal_(std=0.5, generator=generator)
    return module


def elastic_equals_extracted(case: Case) -> None:
    """Check that slices of the shared tensors compute and learn as an extracted copy does.

    Nothing else of the shared tensors learns.
    """
    slot = Elastic(build, case.covering, shared_name=shared_names("shared"))
    lively(slot)
    extracted = slot.extract(case.config).train()
    x = images(case, batch=3)
    elastic_x, extracted_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.manual_seed(0)  # for dropout
    elastic_y = slot.train()(case.config, elastic_x)
    torch.manual_seed(0)
    extracted_y = extracted(extracted_x)
    assert_close(elastic_y, extracted_y, rtol=0, atol=1e-6)

    towards = torch.randn(elastic_y.shape, generator=torch.Generator().manual_seed(2))
    (elastic_y * towards).sum().backward()
    (extracted_y * towards).sum().backward()
    assert_close(elastic_x.grad, extracted_x.grad)
    _assert_adjoint(slot, extracted, case.config)


def _assert_adjoint(slot: Elastic[SlotConfig], extracted: nn.Module, config: SlotConfig) -> None:
    """Check that the gradient of the shared tensors is that of the extracted ones, mapped back.

    Extraction is linear: for any values v of the shared tensors, <shared gradient, v> must equal
    <extracted gradient, extraction of v>. Entries that the module has no part in must not learn at all.
    """
    shared, own = (_flat(_gradient(parameter) for parameter in m.parameters()) for m in (slot, extracted))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in slot.parameters():
            parameter.normal_(generator=generator)
    there, here = _flat(slot.parameters()), _flat(slot.extract(config).parameters())
    scale = float(own.norm() * here.norm())
    assert_close(shared @ there, own @ here, rtol=0, atol=1e-6 * scale)


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def assert_near(found: Tensor, expected: Tensor, part: float) -> None:
    """Check that no value differs by more than a `part` of max(1, largest).

    Random weights can make any size.
    """
    assert_close(found, expected, rtol=0, atol=part * max(1.0, float(expected.detach().abs().max())))


def one_image_equals_many(case: Case) -> None:
    """Check that each image is computed as if alone, at odd sizes and a single pixel, in both memory formats.

    In float64: random weights magnify rounding.
    """
    module = lively(build(case.config)).eval().double()
    for size in ((7, 5), (1, 1)):
        x = images(case, 3, size).double()
        alone = torch.cat([module(image[None]) for image in x])
        assert_near(module(x), alone, 1e-10)
        assert_near(module(x.to(memory_format=torch.channels_last)), alone, 1e-10)


def strategies_agree(case: Case) -> None:
    """Check that mixing the feature maps gives what mixing the kernels gives."""
    if case.name not in first_with_layers():
        return
    module = lively(build(case.config)).eval()
    x = images(case, batch=3)
    mixed_first = module(x)
    with supplied(module, Context(ConvMode("conv_first"))):
        assert_near(module(x), mixed_first, 1e-5)


def folding_keeps_outputs(case: Case) -> None:
    """Check that the module without its batch norms computes the same, in float64.

    Random weights magnify rounding.
    """
    if case.name not in first_with_layers():
        return
    module = lively(build(case.config)).eval().double()
    x = images(case, batch=3).double()
    expected = module(x)
    for part in module.modules():
        if isinstance(part, ConvUnit):
            part.fold()
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    assert_near(module(x), expected, 1e-10)


def state_round_trips(case: Case) -> None:
    """Check that a state dict, saved and loaded without unpickling code, carries everything."""
    if case.name not in first_with_layers():
        return
    module, other = lively(build(case.config)).eval(), build(case.config).eval()
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    x = images(case, batch=2)
    assert_close(other(x), module(x), rtol=0, atol=0)


def counts_agree(case: Case) -> None:
    """Check that multiply-adds and parameters are positive, and the same counted without values."""
    if case.name not in first_with_layers():
        return
    real = build(case.config).eval()
    with torch.device("meta"):
        meta = build(case.config).eval()
    x = images(case, batch=1)
    assert macs(meta, x.to("meta")) == macs(real, x) > 0
    assert parameters(meta) == parameters(real) > 0


def gates_run_what_they_say(case: Case) -> None:
    """Check that leaving work out gives what multiplying gives, for one image and many.

    An open gate changes nothing.
    """
    if not (isinstance(case.config, BlockConfig) and case.config.gated):
        return
    gated = lively(build(case.config)).eval()
    assert isinstance(gated, Gated)
    x = images(case, batch=6)
    with tracing(gated, Decision) as trace:
        expected = gated(x)
    real = Context(GateMode("real"))
    each = [gated(image[None], context=real) for image in x]
    for found in (gated(x, context=real), torch.cat(each)):
        # Sums over other channels round otherwise, which blocks of large values make more of.
        assert_near(found, expected, 5e-5)
    (decision,) = trace.of(Decision)
    assert_close(decision.usage.sum(1), torch.ones(6))
    plain = build(case.config.without_gate()).eval()
    plain.load_state_dict(gated.block.state_dict())
    every = Context(GateMode(choice="all"))
    assert_close(gated(x, context=every), plain(x), rtol=0, atol=0)


def gates_learn(case: Case) -> None:
    """Check that gradients reach every parameter of a gate.

    They come from the block's output, its side values, or its cost.
    """
    if not (isinstance(case.config, BlockConfig) and case.config.gated):
        return
    gated = build(case.config).train()
    assert isinstance(gated, Gated)
    with tracing(gated, Decision) as trace:
        after = gated(Flow(images(case, batch=6)))
    values = [
        after.x.square(),
        trace.of(Decision)[0].usage[:, -1],
        *after.beside.values(),
        *after.next.values(),
    ]
    torch.stack([value.sum() for value in values]).sum().backward()
    for name, parameter in gated.gate.named_parameters():
        assert float(_gradient(parameter).abs().sum()) > 0, f"no gradient reaches the gate's {name}"


def gates_keep_apart(case: Case) -> None:
    """Check that a gate's tensors carry its name, and those of its block the names without it."""
    if not (isinstance(case.config, BlockConfig) and case.config.gated):
        return
    plain = {name for name, _ in build(case.config.without_gate()).named_parameters()}
    names = {shared_name(name) for name, _ in build(case.config).named_parameters()}
    assert plain <= names
    unnamed = sorted(name for name in names - plain if case.config.gate.name not in name)
    assert not unnamed, f"parameters without the gate's name {case.config.gate.name!r}: {unnamed}"


def macs(module: nn.Module, x: Tensor) -> int:
    """Return the multiply-adds of `module` on `x`."""
    return count_macs(module, x)[1]


def parameters(module: nn.Module) -> int:
    """Return the number of trainable values of `module`."""
    return sum(parameter.numel() for parameter in module.parameters())


def names_keep_ops_apart(case: Case) -> None:
    """Check that tensors which only an op has carry its name, so that no other op shares them by accident."""
    config = case.config
    if not isinstance(config, BlockConfig):
        return
    plain = replace(config, op=STATIC)
    shared = {name for name, _ in build(plain).named_parameters()}
    own = {name for name, _ in build(config).named_parameters()} - shared
    unnamed = sorted(name for name in own if config.op.name not in name)
    assert not unnamed, f"parameters without the op's name {config.op.name!r}: {unnamed}"


def exports_to_onnx(case: Case, every: bool = False) -> None:
    """Check that ONNX Runtime agrees with torch, on a graph for one image and on one with a free batch axis.

    Cases whose layers are all in earlier ones are checked if `every` is True.

    Raises:
        MissingExtraError: onnx or ONNX Runtime is not installed.
    """
    if not every and case.name not in first_with_layers():
        return
    module = lively(build(case.config)).eval()
    runtime = require("onnxruntime", "onnx")
    require("onnx", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    plans: tuple[tuple[Strategy, int, tuple[int, ...]], ...] = (("auto", 1, (1,)), ("conv_first", 2, (1, 3)))
    # Strategies do not differ where no convolution reads them.
    mixed = any(isinstance(part, Kernel) and part.reads_context for part in module.modules())
    for strategy, exported, ran in plans if mixed else plans[1:]:
        free = with_context(module, Context(ConvMode(strategy)))
        graph = _onnx(free, images(case, exported), free_batch=exported > 1)
        session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        for batch in ran:
            x = images(case, batch)
            (y,) = session.run(None, {"x": x.numpy()})
            assert_near(torch.from_numpy(y), module(x).detach(), 2e-4)  # random weights magnify rounding


def _onnx(module: nn.Module, x: Tensor, free_batch: bool) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter warns of its age; its warnings of what tracing may miss are let through.
        warnings.filterwarnings("ignore", message="You are using the legacy TorchScript-based ONNX export")
        warnings.filterwarnings("ignore", message="The feature will be removed", category=DeprecationWarning)
        torch.onnx.export(
            nn.Sequential(module).eval(),  # the exporter fills in arguments, and takes no `Hidden`
            (x,),
            buffer,  # type: ignore[arg-type]  # the annotation forgets that buffers are taken too
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}} if free_batch else None,
            dynamo=False,
        )
    return buffer.getvalue()


__all__ = ["CHECKS", "Case", "cases"]

CHECKS: tuple[Callable[[Case], None], ...] = (
    elastic_equals_extracted,
    one_image_equals_many,
    strategies_agree,
    folding_keeps_outputs,
    state_round_trips,
    counts_agree,
    names_keep_ops_apart,
    gates_run_what_they_say,
    gates_learn,
    gates_keep_apart,
    exports_to_onnx,
)

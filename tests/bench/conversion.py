"""Which networks become design spaces, and what a small member saves: the smallest of 45 families.

    python tests/bench/conversion.py [--out conversion.json] [--networks resnet18 ...] [--rounds 9]
    python tests/bench/conversion.py --out conversion.json --table

For each network of timm and torchvision, with fresh weights: whether `dynnas.elastic` makes a space of it,
whether the largest member equals it bit for bit, whether a member of half the width and the least depth runs
in ONNX Runtime with parity, and how much time of the processor it takes beside the network (median ratio of
alternating calls, one thread, batch 1). Beside it Torch-Pruning's magnitude pruner at ratio 0.5, and the
smallest subnet of ModelOpt's FastNAS, where they are installed: whether the result runs with outputs of the
same shape, and how many of the weights it has. Results are kept in a file: the bench goes on where it was
interrupted.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import random
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import dynnas as dn
from dynnas.latency.runner import build_runner
from dynnas.settings.settings import TargetSettings
from dynnas.space.moves import sample

NETWORKS = (
    "resnet18", "resnext26ts", "regnetx_002", "regnety_002", "mobilenetv1_100", "mobilenetv2_035",
    "mobilenetv3_small_050", "mobilenetv4_conv_small_035", "mnasnet_small", "efficientnet_b0", "lcnet_035",
    "tinynet_e", "ghostnet_100", "ghostnetv2_100", "hgnetv2_b0", "repvgg_a0", "vgg11_bn", "densenet121",
    "torchvision:squeezenet1_1", "torchvision:shufflenet_v2_x0_5", "convnext_atto", "repvit_m0_9",
    "fastvit_t8", "edgenext_xx_small", "mobilevit_xxs", "mobilevitv2_050", "efficientvit_b0",
    "efficientvit_m0", "levit_128s", "vit_tiny_patch16_224", "deit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224", "poolformer_s12", "pvt_v2_b0", "xcit_nano_12_p16_224", "mixer_s32_224",
    "mobileone_s0", "fbnetc_100", "rexnet_100", "starnet_s1", "dla46_c", "hrnet_w18_small", "skresnet18",
    "inception_next_atto", "efficientformer_l1",
)  # fmt: skip
MODULES = {"torch_pruning": "torch_pruning", "fastnas": "modelopt"}
"""The module by which a rival is found."""
MEMBERS = 4
"""Random members that are tried."""
PARITY = 1e-3
"""Largest difference of outputs, as a share of their largest value."""


def network_of(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A network with fresh weights in eval mode, and an image of the size that it takes."""
    torch.manual_seed(0)
    if name.startswith("torchvision:"):
        from torchvision import models

        network, side = getattr(models, name.partition(":")[2])(weights=None), 224
    else:
        import timm

        network = timm.create_model(name)
        side = network.default_cfg["input_size"][-1]
    images = torch.randn(2, 3, side, side)
    norms = [each for each in network.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    network.eval()
    for norm in norms:  # statistics as after a training: with fresh ones activations become denormal numbers
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        network(images)
    return network.eval(), images[:1]


def attempt(act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `act` finds, or the first line of its error."""
    try:
        return act()
    except Exception as error:  # whatever the three tools may raise
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]}


def ours(name: str, rounds: int) -> dict[str, Any]:
    network, image = network_of(name)
    start = time.perf_counter()
    space = dn.elastic(network, image)
    seconds = time.perf_counter() - start
    report = space.model.report
    with torch.no_grad():
        equal = torch.equal(space.model()(image), network(image))
    small = space.model(half(report.choices))
    rng = random.Random(0)
    members = [works(space.build(sample(space, rng)), network, image) for _ in range(MEMBERS)]
    return {
        "seconds": round(seconds, 1),
        "genes": len(report.choices),
        "left_out": dict(report.left_out),
        "smallest": round(report.parameters[1] / report.parameters[0], 3),
        "equal": equal,
        "members": sum(members),
        **timed(small, network, image, rounds),
    }


@torch.no_grad()
def works(member: nn.Module, network: nn.Module, image: torch.Tensor) -> bool:
    """Whether a member runs, and gives what the network gives in shape."""
    try:
        return bool(member.eval()(image).shape == network(image).shape)
    except RuntimeError:
        return False


def half(choices: Any) -> dict[str, int]:
    """Half the width, the least depth, whole kernels."""
    values = {}
    for name, allowed in choices.items():
        if name.rpartition(".")[2].startswith("width"):
            values[name] = min(allowed, key=lambda width: abs(width - allowed[-1] / 2))
        elif name.rpartition(".")[2].startswith("depth"):
            values[name] = allowed[0]
    return values


def timed(small: nn.Module, network: nn.Module, image: torch.Tensor, rounds: int) -> dict[str, Any]:
    """Parity of a small network in ONNX Runtime, and its time beside the whole one."""
    target, shape = TargetSettings(), tuple(image.shape[1:])
    with torch.no_grad():
        expected = small(image).numpy()
    runners = [build_runner(each, target, shape) for each in (small, network)]
    found = runners[0](image.numpy())
    difference = float(np.abs(found - expected).max() / (np.abs(expected).max() or 1.0))
    ratios = []
    for _ in range(rounds + 1):
        taken = []
        for runner in runners:
            start = time.process_time()  # of one thread: other processes do not change it much
            runner(image.numpy())
            taken.append(time.process_time() - start)
        ratios.append(taken[0] / taken[1])
    return {
        "kept": round(parameters(small) / parameters(network), 3),
        "difference": difference,
        "parity": difference < PARITY,
        "time": round(statistics.median(ratios[1:]), 3),
    }


def parameters(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def torch_pruning(name: str) -> dict[str, Any]:
    """As Torch-Pruning's own example for timm does it: heads are told, classifiers stay."""
    import torch_pruning as tp

    network, image = network_of(name)
    pruned = copy.deepcopy(network)
    heads: dict[nn.Module, int] = {}
    stay = []
    for module in pruned.modules():
        if hasattr(module, "num_heads") and isinstance(getattr(module, "qkv", None), nn.Module):
            heads[module.qkv] = module.num_heads
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.shape[0] == 1000:
            stay.append(module)
    pruner = tp.pruner.MagnitudePruner(
        pruned,
        image,
        importance=tp.importance.GroupMagnitudeImportance(p=1),
        pruning_ratio=0.5,
        ignored_layers=stay,
        num_heads=heads,
        round_to=8,
    )
    pruner.step()
    for module in pruned.modules():
        if getattr(module, "qkv", None) in heads:
            width = module.qkv.out_features // 3
            module.num_heads = pruner.num_heads[module.qkv]
            module.head_dim = width // module.num_heads
            if hasattr(module, "attn_dim"):
                module.attn_dim = width
    with torch.no_grad():
        if pruned(image).shape != network(image).shape:
            return {"error": "outputs get another shape"}
    return smaller(pruned, network)


def smaller(found: nn.Module, network: nn.Module) -> dict[str, Any]:
    """The share of the weights that is left, if any are gone."""
    kept = parameters(found) / parameters(network)
    return {"kept": round(kept, 3)} if kept < 1 else {"error": "nothing is left out"}


def fastnas(name: str) -> dict[str, Any]:
    """ModelOpt's conversion for FastNAS, and its smallest subnet."""
    import modelopt.torch.nas as mtn

    network, image = network_of(name)
    converted = mtn.convert(copy.deepcopy(network), mode="fastnas")
    mtn.sample(converted, min)
    small = mtn.export(converted).eval()
    with torch.no_grad():
        if small(image).shape != network(image).shape:
            return {"error": "outputs get another shape"}
    return smaller(small, network)


def table(results: dict[str, Any]) -> str:
    lines = [
        "| network | choices | largest equal | smallest | member | in ONNX Runtime | time | Torch-Pruning "
        "| FastNAS |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in results.items():
        own = found["dynnas"]
        cells = (
            [f"no: {own['error']}", *[""] * 5]
            if "error" in own
            else [
                own["genes"],
                "yes" if own["equal"] else "NO",
                f"{own['smallest']:.0%}",
                f"{own['kept']:.0%}",
                "parity" if own["parity"] else f"off by {own['difference']:.1g}",
                f"{own['time']:.2f}",
            ]
        )
        rivals = [found.get(tool, {}) for tool in ("torch_pruning", "fastnas")]
        cells += [f"{each['kept']:.0%}" if "kept" in each else "no" if each else "not run" for each in rivals]
        lines.append(f"| {name.removeprefix('torchvision:')} | {' | '.join(map(str, cells))} |")
    tools = ("dynnas", "torch_pruning", "fastnas")
    run = {tool: [found[tool] for found in results.values() if tool in found] for tool in tools}
    counts = {tool: sum("error" not in each for each in found) for tool, found in run.items()}
    good = [found["dynnas"] for found in results.values() if "error" not in found["dynnas"]]
    lines += [
        "",
        f"Of {len(results)} networks dynnas converts {counts['dynnas']}: "
        f"{sum(each['equal'] for each in good)} largest members are equal bit for bit, "
        f"{sum(each['parity'] for each in good)} members have parity, "
        f"{sum(each['members'] for each in good)} of {MEMBERS * len(good)} random ones run, "
        f"{sum(each['time'] < 1 for each in good)} are faster. Torch-Pruning converts "
        f"{counts['torch_pruning']} of {len(run['torch_pruning'])}, FastNAS {counts['fastnas']} of "
        f"{len(run['fastnas'])}.",
    ]
    return "\n".join(lines)


def prepare_torchvision() -> Any:
    """Declare what torchvision misses beside another torch; see `tests/conftest.py`."""
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return operators


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("conversion.json"))
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--table", action="store_true", help="print the table of what was found")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    if args.table:
        print(table(results))
        return
    kept = prepare_torchvision()
    tools = {"dynnas": partial(ours, rounds=args.rounds), "torch_pruning": torch_pruning, "fastnas": fastnas}
    for tool, act in tools.items():
        if tool in MODULES and find_spec(MODULES[tool]) is None:
            print(f"{tool} is not installed: its column stays as it is")
            continue
        for name in args.networks:
            found = results.setdefault(name, {})
            if tool not in found:
                found[tool] = attempt(lambda: act(name))  # noqa: B023
                gc.collect()
                args.out.write_text(json.dumps(results, indent=1))
                told = found[tool].get("error") or found[tool].get("time") or found[tool]["kept"]
                print(f"{name:32} {tool:14} {told}", flush=True)
    del kept


if __name__ == "__main__":
    main()

"""The tables of operators: what each costs beside its published figures, and its measured latency.

    python tests/bench/operators.py [--write] [--clock wall] [--seconds 1] [--threads 1] [--only se stn]

Prints the tables in Markdown; `--write` puts them into docs/guide/space-file.md and dynnas/nn/README.md.
Latency is that of the exported graph in ONNX Runtime at batch 1, by the project's meter with the static
version as its anchor: the median over rounds, in each of which both run, of one's time over the other's. All
other columns are counted, and a test holds the files to them.

Where other programs take the processor in turns, a long run is interrupted more often than a short one, and
no median over rounds mends that: on two cores under a load of five, a block of twice the static one's work
took 1.1 times as long and then 1.5, and one of an eighth took 0.03 times. With `--clock processor` only the
process's own time counts: 1.95 and 0.26 times. On one thread that is the latency of an undisturbed run; the
column then says so in its head. Times by the wall's clock are not written where they were disturbed.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1]))

from support import published
from support.published import costs, mobilenet_v2, resnet50, shufflenet_v2

from dynnas.latency.meter import LatencyMeter, LocalTimer
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.networks.network import Network
from dynnas.settings.settings import TargetSettings

ROOT = Path(__file__).parents[2]
Build = Callable[[], NetworkConfig]
FILES = {"docs/guide/space-file.md": ("kernels",), "dynnas/nn/README.md": ("kernels", "gates", "blocks")}
CALIBRATION_IMAGES = 2
# What the column is called, and what tells the time.
CLOCKS = {"wall": ("time", time.perf_counter), "processor": ("processor time", time.process_time)}
DISTURBED = 1.5  # a median over the 10th percentile; 1.1 where nothing else runs


@dataclass(frozen=True)
class Row:
    """An operator: what is known without measuring, what is timed, and against what."""

    name: str
    source: str
    counted: Callable[[], tuple[str, ...]]
    timed: Build
    base: Build

    def cells(self) -> tuple[str, ...]:
        """All cells but the latency."""
        return (self.name, self.source, *self.counted())


@dataclass(frozen=True)
class Table:
    """The head of a table but for its last column, the latency, and its rows."""

    head: tuple[str, ...]
    rows: tuple[Row, ...]

    def lines(self, time: Callable[[Row], str], clock: str) -> list[str]:
        """The table in Markdown, with latencies by one of the `CLOCKS`."""
        body = [(*row.cells(), time(row)) for row in self.rows]
        head = (*self.head, CLOCKS[clock][0])
        cells = [head, ("---",) * len(head), *body]
        return [f"| {' | '.join(line)} |" for line in cells]


def in_mobilenet(name: str, source: str, printed: Callable[[], str] = lambda: "–", **knobs: Any) -> Row:
    """A kernel, attention or activation in every block of MobileNetV2; `printed` is what was published."""
    build = partial(mobilenet_v2, **knobs)

    def counted() -> tuple[str, ...]:
        macs, params = costs(build())
        return f"{macs / 1e6:.0f}", f"{params / 1e6:.2f}", printed()

    return Row(name, source, counted, build, mobilenet_v2)


def added(build: Callable[..., NetworkConfig], **knobs: Any) -> tuple[float, float]:
    """Millions of multiply-adds and of parameters that `knobs` add to a network."""
    (with_macs, with_params), (macs, params) = costs(build(**knobs)), costs(build())
    return (with_macs - macs) / 1e6, (with_params - params) / 1e6


def mobilenet_printed(macs: str, params: str, **knobs: Any) -> str:
    found_macs, found_params = costs(mobilenet_v2(**knobs))
    return f"{found_macs / 1e6:.0f} MMACs ({macs}), {found_params / 1e6:.1f} M ({params})"


def odconv_printed() -> str:
    return f"{mobilenet_printed('327', '11.5', op='odconv', experts=4)}, its last convolution dynamic too"


def condconv_printed() -> str:
    macs, _ = added(published.efficientnet_b0, op="condconv", experts=8)
    return f"EfficientNet-B0, K = 8 in 3 stages: +{macs:.0f} MMACs (+22)"


def weightnet_printed() -> str:
    macs, params = added(shufflenet_v2, op="weightnet", group=1, splits=2)
    return f"ShuffleNetV2 1x: +{macs:.0f} MMACs (+1), +{params:.1f} M (+0.2)"


def resnet50_printed(attention: str, macs: str, params: str) -> str:
    more_macs, more_params = added(resnet50, attention=attention)
    size = f"{more_params:.1f} M" if more_params > 0.1 else f"{1e6 * more_params:.0f}"
    return f"ResNet-50: +{more_macs:.1f} MMACs ({macs}), +{size} ({params})"


def dyrelu_printed() -> str:
    macs = costs(mobilenet_v2("dyrelu_b"))[0] / costs(mobilenet_v2())[0] - 1
    return f"+{100 * macs:.0f}% MACs (+5%)"


KERNELS = Table(
    ("`op`", "arXiv", "MMACs", "M params", "here (published)"),
    (
        in_mobilenet("`static`", "1801.04381", partial(mobilenet_printed, "300", "3.4")),
        in_mobilenet("`dgc`, 4 heads, half of the inputs", "2007.04242", op="dgc"),
        in_mobilenet("`hypernet`", "1609.09106", op="hypernet"),
        in_mobilenet("`deformable` v2", "1811.11168", op="deformable"),
        in_mobilenet("`deform_kernel`, global", "1910.02940", op="deform_kernel"),
        in_mobilenet("`pac`", "1904.05373", op="pac"),
        in_mobilenet("`involution`", "2103.06255", op="involution"),
        in_mobilenet("`dfn`", "1605.09673", op="dfn"),
        in_mobilenet("`acnet`", "1904.03579", op="acnet"),
        in_mobilenet("`condconv` K = 4", "1904.04971", condconv_printed, op="condconv", experts=4),
        in_mobilenet(
            "`dyconv` K = 4",
            "1912.03458",
            partial(mobilenet_printed, "313", "11.1", op="dyconv", experts=4),
            op="dyconv",
            experts=4,
        ),
        in_mobilenet(
            "`odconv` K = 4",
            "2209.07947",
            odconv_printed,
            op="odconv",
            experts=4,
        ),
        in_mobilenet("`drconv` K = 4, 4 regions", "2003.12243", op="drconv", experts=4),
        in_mobilenet("`dynet` g = 4", "2004.10694", op="dynet", group=4),
        in_mobilenet("`dynet_layer` g = 4", "2004.10694", op="dynet_layer", group=4),
        in_mobilenet(
            "`weightnet` M = G = 2", "2007.11823", weightnet_printed, op="weightnet", group=1, splits=2
        ),
    ),
)
GATES = Table(
    ("`attention`, `activation`", "arXiv", "MMACs", "M params", "here (published)"),
    (
        in_mobilenet(
            "`se`, a quarter of the channels",
            "1709.01507",
            partial(resnet50_printed, "se", "+10, a sixteenth", "+2.5 M, a sixteenth"),
            attention="se",
        ),
        in_mobilenet(
            "`cbam`",
            "1807.06521",
            partial(resnet50_printed, "cbam", "+6", "+2.5 M"),
            attention="cbam",
        ),
        in_mobilenet("`bam`", "1807.06514", attention="bam"),
        in_mobilenet(
            "`srm`", "1903.10829", partial(resnet50_printed, "srm", "–", "+0.06 M"), attention="srm"
        ),
        in_mobilenet("`gather_excite`, extent 4", "1810.12348", attention="gather_excite"),
        in_mobilenet("`stn`", "1506.02025", attention="stn"),
        in_mobilenet("`eca`", "1910.03151", partial(resnet50_printed, "eca", "+0.5", "+80"), attention="eca"),
        in_mobilenet("`dyrelu_a`", "2003.10027", activation="dyrelu_a"),
        in_mobilenet("`dyrelu_b`", "2003.10027", dyrelu_printed, activation="dyrelu_b"),
        in_mobilenet("`hswish`; also `relu`, `relu6`, `silu`, `sign`", "1905.02244", activation="hswish"),
    ),
)


def stack(block: str) -> NetworkConfig:
    """Four blocks of 64 channels at 28x28, all knobs at their defaults."""
    stage = {"block": block, "width": 64, "depth": 4}
    return published.network({"width": 64}, [stage], resolution=28, classes=10)


def block_row(name: str, source: str, title: str = "–", network: Build | None = None, **printed: str) -> Row:
    """A block: a published network of it, what it costs, and what is `printed` of its `macs` and `params`."""

    def counted() -> tuple[str, ...]:
        if network is None:
            return title, "–", "–"
        macs, params = costs(network())
        return title, *(
            f"{count / 1e6:{form}} ({printed.get(key, '–')})"
            for count, form, key in ((macs, ".0f", "macs"), (params, ".2f", "params"))
        )

    return Row(f"`{name}`", source, counted, partial(stack, name), partial(stack, "conv"))


BLOCKS = Table(
    ("`block`", "arXiv", "network", "MMACs (published)", "M params (published)"),
    (
        block_row("conv", "–"),
        block_row("dwsep", "1704.04861", "MobileNet", published.mobilenet_v1, macs="569", params="4.2"),
        block_row("mbconv", "1801.04381", "MobileNetV2", mobilenet_v2, macs="300", params="3.4"),
        block_row(
            "fused_mbconv",
            "2104.00298",
            "EfficientNetV2-S, 384x384 ¹",
            published.efficientnet_v2_s,
            macs="8800",
            params="22",
        ),
        block_row("basic", "1512.03385", "ResNet-18", published.resnet18, macs="1820", params="11.7"),
        block_row("bottleneck", "1512.03385", "ResNet-50", resnet50, macs="4100", params="25.6"),
        block_row("shuffle_v1", "1707.01083", "ShuffleNet 1x, g = 2 ²", published.shufflenet_v1, macs="140"),
        block_row("shuffle_v2", "1807.11164", "ShuffleNetV2 1x", shufflenet_v2, macs="146", params="2.3"),
        block_row("ghost", "1911.11907", "GhostNet 1.0x ³", published.ghostnet, macs="141", params="5.2"),
        block_row("fire", "1602.07360", "SqueezeNet 1.0 ⁴", published.squeezenet, params="1.25"),
        block_row("sepconv", "1610.02357"),
        block_row("lowrank", "1505.06798"),
    ),
)
TABLES: Mapping[str, Table] = {"kernels": KERNELS, "gates": GATES, "blocks": BLOCKS}


class Stopwatch:
    """Times networks against their static version.

    Attributes:
        disturbed: names of those whose runs were often interrupted.
    """

    def __init__(self, target: TargetSettings, clock: str) -> None:
        """On the device of `target`, for its `seconds` a network, by one of the `CLOCKS`."""
        self._target, self._timer = target, LocalTimer(target.device, clock=CLOCKS[clock][1])
        self.disturbed: list[str] = []

    def __call__(self, row: Row) -> str:
        """Latency over that of the row's base; of the base itself, milliseconds."""
        config, base = row.timed(), row.base()
        meter = LatencyMeter(self._target, [self._workload(base)], timer=self._timer)
        if config == base:
            return f"1 ({meter.reference.anchor_ms:.1f} ms)"
        latency = meter.measure(self._workload(config))
        spread = latency.plain_median_ms.value / latency.plain_low_ms.value
        if spread > DISTURBED:
            self.disturbed.append(row.name)
        print(
            f"{row.name}: {latency.ratio:.2f} (median run {spread:.2f} of the 10th percentile)",
            file=sys.stderr,
        )
        return f"{latency.ratio:.2f}"

    def _workload(self, config: NetworkConfig) -> Workload:
        """The network as it ships, with values of the sizes that they have after training."""
        torch.manual_seed(0)
        shape = (CALIBRATION_IMAGES, config.channels, config.resolution, config.resolution)
        images = torch.randn(shape)
        network = Network(config).train()
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = None
        with torch.no_grad():
            network.logits(images)
        return Workload(build_runner(network.eval(), self._target), [images[:1].numpy()])


def put(text: str, name: str, lines: list[str]) -> str:
    """`text` with a table in place of the one between the marks of that name."""
    marks = f"<!-- table {name} -->\n", "<!-- end of table -->"
    table = re.compile(f"({re.escape(marks[0])}).*?({re.escape(marks[1])})", re.DOTALL)
    text, found = table.subn(lambda match: "\n".join([match[1].rstrip(), *lines, match[2]]), text)
    if found != 1:
        raise SystemExit(f"{found} tables are marked {name!r}; one is needed")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put the tables into the files")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing for each operator")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[], help="time these operators, and print nothing else")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.clock == "processor" and args.threads > 1:
        parser.error("--clock processor adds up the time of all threads: it is a latency on one thread only")
    stopwatch = Stopwatch(TargetSettings(threads=args.threads, seconds=args.seconds), args.clock)
    if args.only:
        names = tuple(f"`{name}`" for name in args.only)
        for row in (row for table in TABLES.values() for row in table.rows if row.name.startswith(names)):
            print(f"{row.name}: {stopwatch(row)}", flush=True)
        return
    tables = {name: table.lines(stopwatch, args.clock) for name, table in TABLES.items()}
    for lines in tables.values():
        print("\n".join(lines), end="\n\n")
    if args.write:
        if stopwatch.disturbed and args.clock == "wall":
            parser.exit(1, f"not written: other programs disturbed {', '.join(stopwatch.disturbed)}\n")
        for file, names in FILES.items():
            path = ROOT / file
            text = path.read_text(encoding="utf-8")
            for name in names:
                text = put(text, name, tables[name])
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Batches of a network with exits or gates: everything computed for every image, or only what each wants."""

from __future__ import annotations

from dynnas.errors import TargetError
from dynnas.nn.networks.network import Network
from dynnas.runtimes.compile import resolve_runtime
from dynnas.runtimes.runtime import BatchExecution, BatchRunner, get_runtime
from dynnas.settings.settings import TargetSettings


def build_batch_runner(network: Network, target: TargetSettings, execution: BatchExecution) -> BatchRunner:
    """Fold and compile a copy of `network` for batches on `target`; batch norm must be calibrated.

    Raises:
        TargetError: as `resolve_runtime`, or batches of any size are not run there.
        MissingExtraError: the runtime is not installed.
    """
    runtime = get_runtime(resolve_runtime(target))
    if target.remote:
        raise TargetError(
            f"target: batches of any size are run on this machine, not on {target.device}; use another target"
        )
    return runtime.run_batches(network, target, execution)

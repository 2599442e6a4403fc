"""The choice of a search's workers, and of the cluster that they run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from dynnas.errors import StudyError, require
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.search.evaluator import AnyEvaluator
from dynnas.search.workers.pool import WorkerPool
from dynnas.search.workers.processes import ProcessPool
from dynnas.search.workers.ray_environment import prepare_ray
from dynnas.search.workers.unsplit import as_split

if TYPE_CHECKING:
    from dynnas.search.workers.cluster import Cluster


@contextmanager
def open_cluster(address: str | None, processors: int = 1) -> Iterator[Cluster | None]:
    """Open the Ray cluster at `address`, for as long as the context lasts; None where there is no address.

    Args:
        address: "local" for one that is started here, "auto" or host:port for one that runs.
        processors: how many it must have.

    Raises:
        MissingExtraError: Ray is not installed.
        StudyError: there is no such cluster, or it is too small.
    """
    if address is None:
        yield None
        return
    prepare_ray(address)
    require("ray", "ray")
    from dynnas.search.workers import cluster

    with cluster.open_cluster(address, processors) as found:
        yield found


@contextmanager
def open_pool(
    evaluator: AnyEvaluator,
    goal: Goal,
    *,
    workers: int = 1,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> Iterator[WorkerPool | None]:
    """Open the workers for the evaluator's jobs, for as long as the context lasts.

    It is None if the driver does them.

    Args:
        evaluator: whose jobs.
        goal: up to whose limits an evaluator that knows no jobs is asked.
        workers: processes beside the driver, if more than 1; with a cluster, its actors, and 1 is all that
            it has processors for.
        cluster: where the workers are, if not on this machine.
        progress: is told of workers that were lost.

    Raises:
        StudyError: fewer than one worker, or an evaluator that cannot be sent to one.
    """
    if workers < 1:
        raise StudyError(f"workers: found {workers}; at least 1 is needed")
    if cluster:
        worker = as_split(evaluator, goal).worker
        with closing(cluster.pool(worker, 0 if workers == 1 else workers, progress or Progress())) as actors:
            yield actors
        return
    if workers == 1:
        yield None
        return
    with closing(ProcessPool(as_split(evaluator, goal).worker, workers, progress or Progress())) as pool:
        yield pool

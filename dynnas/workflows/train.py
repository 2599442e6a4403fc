"""The command `dynnas train`: networks of a study trained further, or from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

from dynnas.candidates.candidate import int8_images
from dynnas.errors import StudyError, nearest
from dynnas.files import atomic_write
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.network import Network
from dynnas.pareto.front import ScoredArchitecture
from dynnas.progress import Progress
from dynnas.runtimes.compile import compile_network
from dynnas.search.storage.locks import study_lock
from dynnas.settings.settings import TargetSettings, TrainSettings
from dynnas.space.gene import QUANTIZE
from dynnas.space.moves import largest
from dynnas.study.records.trained import Trained, trained_to_json
from dynnas.study.scores import artifact_scores, scores_of
from dynnas.study.study import Study
from dynnas.training.algorithm import Algorithm
from dynnas.training.algorithms.binary_weights import BinaryWeights
from dynnas.training.algorithms.fake_quantization import FakeQuantization
from dynnas.training.algorithms.ternary_weights import TernaryWeights
from dynnas.training.batchnorm.calibrate import calibrate
from dynnas.training.checkpoint import read_checkpoint
from dynnas.training.recipe import Recipe
from dynnas.training.train_network import fresh_network, train_alone
from dynnas.training.weights.average import averaged
from dynnas.training.weights.files import save_network

INHERITED_LR = 0.25
"""Share of the supernet's learning rate at which inherited weights are trained on."""

QUANTIZED: Mapping[str, type[Algorithm]] = {
    "binary": BinaryWeights,
    "ternary": TernaryWeights,
    "int8": FakeQuantization,
}
"""The algorithms by the kinds of weights that a recipe may ask for."""


def recipe_of(train: TrainSettings, start: str, lr: float | None = None, **changes: object) -> Recipe:
    """Return the recipe for networks of a study whose supernet was trained by `train`.

    Args:
        train: epochs and seed in it are those wanted.
        start: `inherited` or `scratch`.
        lr: peak learning rate; the supernet's if None, or `INHERITED_LR` of it for inherited weights.
        changes: other settings of the recipe.
    """
    peak = train.lr * (INHERITED_LR if start == "inherited" else 1.0) if lr is None else lr
    return replace(Recipe(replace(train, lr=peak), start), **changes)  # type: ignore[arg-type]


def largest_network(study: Study) -> Network:
    """Return the supernet's largest network, which teaches the others."""
    return study.extractor.candidate(largest(study.space), open_gates=True).copy()


def teachers_for(study: Study, teacher: str) -> list[Network]:
    """Return the networks that teach: none, the supernet's largest, or those of trainings of the study.

    A training with the largest network as its teacher may teach a smaller network in turn: a teacher
    assistant (Mirzadeh et al. 2020, arXiv:1902.03393). Of several teachers the outputs are averaged, or,
    where a plus joins trainings of one network, the weights.

    Args:
        teacher: as `Recipe.teacher`.

    Raises:
        StudyError: the study has no training of that name, or a plus joins different networks.
    """
    if teacher == "none":
        return []
    if teacher == "largest":
        return [largest_network(study)]
    trained = {each.name: each for each in study.trained}
    teams = [part.split("+") for part in teacher.split(",")]
    for name in chain(*teams):
        if name not in trained:
            raise StudyError(
                f"teacher: found {name!r}{nearest(name, trained)}; allowed: largest, none, or names of "
                f"trainings of the study ({', '.join(trained) or 'there are none yet'})"
            )
    return [_team(study, [trained[name] for name in team]) for team in teams]


def _team(study: Study, trained: Sequence[Trained]) -> Network:
    """Return the network of a training, or of the mean weights of several."""
    networks = [study.trained_network(each) for each in trained]
    if len(networks) == 1:
        return networks[0]
    if len({each.key for each in trained}) > 1:
        raise StudyError(
            f"teacher: {'+'.join(each.name for each in trained)} are trainings of different networks, whose "
            "weights have no mean; join them by commas, and their outputs are averaged"
        )
    network, train = averaged(networks), study.settings.train
    images = study.dataset.calibration_images(train.calibration_images, train.seed)
    return calibrate(network, resize(images, network.config.shape[1:]))


def train_members(
    study: Study, members: Sequence[ScoredArchitecture], recipe: Recipe, progress: Progress | None = None
) -> tuple[Trained, ...]:
    """Train `members` of a study by `recipe`, one after the other; they join its trained networks.

    What was trained by the same recipe before is not trained again. Interrupted, the same call goes on from
    the last whole epoch.

    Args:
        study: with a trained supernet.
        members: of its front, or other candidates.
        recipe: how; its seed also draws fresh weights.
        progress: told of every training.

    Raises:
        StudyError: another process drives the study, it has no training that is to teach, or a member in
            float32 is to be trained for int8.
        TrainingError: the supernet is not trained, a checkpoint is damaged, or a loss is not finite.
    """
    progress = progress or Progress()
    with study_lock(study.folder.lock, f"study {study.folder.path}"):
        training = MemberTraining(study, recipe, progress)
        found = []
        for number, member in enumerate(members, 1):
            found.append(training.train(member, f"training {member.key} ({number} of {len(members)})"))
        return tuple(found)


@dataclass(frozen=True)
class MemberTraining:
    """Trains networks of a study by one recipe."""

    study: Study
    recipe: Recipe
    progress: Progress

    def train(self, member: ScoredArchitecture, title: str) -> Trained:
        """Train one network and write it down, unless that was done.

        Raises:
            StudyError: it is to be trained for int8, and does not ship so.
        """
        if self.recipe.weights == "int8" and member.architecture.get(QUANTIZE) != "int8":
            raise StudyError(
                f"train: weights for int8 are of members that chose int8, and {member.key} ships in float32; "
                "tune it by dynnas compress --pass qat, or search with target: {quantize: [none, int8]}"
            )
        name = f"{member.key}-{self.recipe.digest}"
        done = next((each for each in self.study.trained if each.name == name), None)
        if done and (self.study.folder.path / done.file).exists():
            self.progress.message(
                f"{name}: trained before, {done.metric.heading} {done.metric.text(done.score)}"
            )
            return done
        folder = self.study.folder.trained_weights / name
        inherited = self.inherited(member)
        before = accuracy(inherited, self.study.dataset, "search").top1
        network = self.start_of(member, inherited)
        algorithms = [QUANTIZED[self.recipe.weights]()] if self.recipe.weights in QUANTIZED else []
        device = self.study.settings.target.host_device
        train_alone(
            network, self.study.dataset, self.recipe, folder, teacher=self.teachers,
            algorithms=algorithms, progress=self.progress, name=title, device=device,
        )  # fmt: skip
        trained = self._judged(network, member, name, before, folder)
        others = [each for each in self.study.trained if each.name != name]
        atomic_write(self.study.folder.trained, trained_to_json([*others, trained]))
        return trained

    def inherited(self, member: ScoredArchitecture) -> Network:
        """Return the network of `member` as the search scored it, to be trained on."""
        return self.study.extractor.candidate(member.architecture).copy()

    def start_of(self, member: ScoredArchitecture, inherited: Network) -> Network:
        """Return a network like `inherited` with the weights that the training starts from."""
        if self.recipe.start != "scratch":
            return inherited
        if isinstance(inherited, Network):
            return fresh_network(inherited.config, self.recipe.train.seed)
        return self.study.fresh_network(member.key, self.recipe.train.seed)

    @cached_property
    def teachers(self) -> list[Network]:
        """Return the networks that teach by the recipe."""
        return teachers_for(self.study, self.recipe.teacher)

    def _scores(self, network: Network, member: ScoredArchitecture) -> dict[str, float]:
        """Return the scores as the network will ship: in int8 where that was chosen."""
        dataset = self.study.dataset
        if member.architecture.get(QUANTIZE) != "int8":
            return scores_of(network, dataset)
        images = int8_images(network, dataset, self.study.settings.train)
        artifact = compile_network(network, TargetSettings(), int8_images=images)
        return artifact_scores(artifact, network, dataset)

    def _judged(
        self, network: Network, member: ScoredArchitecture, name: str, before: float, folder: Path
    ) -> Trained:
        dataset, recipe = self.study.dataset, self.recipe
        checkpoint = read_checkpoint(folder)
        return Trained(
            name=name,
            key=member.key,
            start=recipe.start,
            teacher=recipe.teacher,
            weights=recipe.weights,
            epochs=recipe.train.epochs,
            seed=recipe.train.seed,
            settings=asdict(recipe),
            metric=dataset.task.metrics[0],
            inherited=before,
            scores=self._scores(network, member),
            exit_shares=accuracy(network, dataset, "search").exit_shares,
            weights_digest=weights_digest(network),
            file=str(save_network(network, folder).relative_to(self.study.folder.path)),
            losses=tuple(checkpoint.losses) if checkpoint else (),
        )

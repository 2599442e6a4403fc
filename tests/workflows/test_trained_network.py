"""A trained network searched end to end: its channels and blocks, with the network itself as teacher."""

import pytest
import torch
from support.trained import TinyResNet, trained

import dynnas as dn
from dynnas.data.given import dataset_of
from dynnas.errors import StudyError
from dynnas.export.bundle import export_model
from dynnas.settings.settings import TrainSettings
from dynnas.supernet.supernet import Supernet
from dynnas.tasks import Classification
from dynnas.training.algorithm import Run
from dynnas.training.algorithms.teaching.trained_teacher import TrainedTeacher
from dynnas.training.batches import DatasetBatches
from dynnas.training.trainer import Trainer

TRAIN = TrainSettings(
    epochs=1, batch=16, lr=0.01, calibration_images=32, precision="float32", layout="channels_first"
)


def images(count, seed, classes=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 16, 16, generator=generator), torch.arange(count) % classes


@pytest.fixture(scope="module")
def space():
    return dn.elastic(trained("resnet"), torch.zeros(1, 3, 16, 16), width=(0.5,), resolution=(8,))


@pytest.fixture(scope="module")
def front(space, tmp_path_factory):
    return dn.search(
        space,
        data=(images(48, 0), images(32, 1), images(16, 2)),
        train=TRAIN,
        target=dn.Target("cpu", seconds=0.02),
        trials=4,
        controls=False,
        folder=tmp_path_factory.mktemp("study") / "resnet",
    )


def test_a_member_comes_back_as_a_module_of_its_class(space, front):
    network = front.study.load("fastest")
    architecture = front.pick("fastest").architecture
    assert type(network) is TinyResNet
    alone = space.build(architecture)
    alone.load_state_dict(network.state_dict())
    x = front.study.dataset.normalise(front.study.dataset.test.images)
    assert torch.equal(alone(x), network(x))


def test_a_member_is_exported_at_the_size_of_its_images(front, tmp_path):
    member = front.pick("fastest")
    network = front.study.network(member.key)
    side = member.architecture["input.resolution"]
    assert network.config.shape == (3, side, side)
    manifest = export_model(network, front.study.dataset, tmp_path / "model", "onnx")
    assert manifest["format"] == "onnx"


def test_the_study_is_opened_with_the_space_alone(space, front):
    folder = front.study.folder.path
    again = dn.open_study(folder, space=space, data=front.study.dataset)
    assert [member.key for member in again.front] == [member.key for member in front]
    other = dn.elastic(trained("resnet", seed=1), torch.zeros(1, 3, 16, 16), width=(0.5,), resolution=(8,))
    with pytest.raises(StudyError, match="another one than the study was made with"):
        _ = dn.open_study(folder, space=other, data=front.study.dataset).space


def test_other_classes_are_refused_with_the_remedy(space, tmp_path):
    with pytest.raises(StudyError, match=r"give 5 outputs, and the data ask for 7; .* classes=7"):
        dn.search(space, data=(images(70, 0, 7), images(35, 1, 7)), train=TRAIN, folder=tmp_path / "study")


def test_the_trained_network_teaches():
    """Each of the two steps' four networks has the outputs of the network that the space was made of."""
    network = trained("resnet")
    space = dn.elastic(network, torch.zeros(1, 3, 16, 16))
    data = dataset_of((images(32, 0), images(16, 1), images(16, 2)))
    heard = []

    class Listener(TrainedTeacher):
        name = "listener"

        def before_loss(self, run: Run, forward: object) -> None:
            super().before_loss(run, forward)
            heard.append((run.inputs, run.teacher))

    supernet = Supernet(space)
    trainer = Trainer(
        supernet,
        Classification(5),
        DatasetBatches(data, 16, 0),
        algorithms=["sandwich", Listener(), "in_place_distillation"],
        optimizer=torch.optim.SGD(supernet.parameters(), 0.01),
    )
    trainer.fit()
    assert len(heard) == 2 * 4
    for inputs, teacher in heard:
        torch.testing.assert_close(teacher, network(inputs), rtol=1e-4, atol=1e-5)


def test_new_weights_of_a_member_are_not_the_trained_ones(space, front):
    study = front.study
    key = front.pick("fastest").key
    trained_weights = space.build(study.architecture(key)).state_dict()
    drawn, again = (study.fresh_network(key, 0).state_dict() for _ in "ab")
    assert {name: tensor.shape for name, tensor in drawn.items()} == {
        f"module.{name}": tensor.shape for name, tensor in trained_weights.items()
    }
    assert all(torch.equal(drawn[name], again[name]) for name in drawn)
    kernels = [name for name, tensor in trained_weights.items() if tensor.dim() > 1]
    assert not any(bool((drawn[f"module.{name}"] == trained_weights[name]).any()) for name in kernels)

"""The graph that takes the bytes of a picture: what comes before the network and behind it is inside."""

import numpy as np
import pytest
import torch
from support.graphs import session_of
from torch import nn

from dynnas.data.dataset import Dataset
from dynnas.data.given import dataset_of
from dynnas.errors import ExportError
from dynnas.export.pictures import check_pictures, pictures_graph, takes_pictures
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.plain import PlainNetwork
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.tasks import Classification, Regression, Segmentation
from dynnas.tasks.task import Task

SIZE, SMALL = (8, 12), (6, 9)
TARGETS = {
    "classification": (Classification(3), torch.arange(12) % 3),
    "regression": (Regression(), torch.arange(12.0)),
    "segmentation": (Segmentation(3), (torch.arange(12 * 96) % 3).view(12, *SIZE)),
}


def data(name: str, deep: bool = False) -> Dataset:
    task, targets = TARGETS[name]
    pixels = torch.randint(
        0, 65536 if deep else 256, (12, 2, *SIZE), generator=torch.Generator().manual_seed(0)
    )
    images = pixels.to(torch.int32 if deep else torch.uint8)
    return dataset_of(((images, targets), (images, targets), (images, targets)), task)


def network(task: Task) -> PlainNetwork:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(2, 6, 3, stride=3, padding=1), nn.ReLU()]
    if task.answers == "pixels":
        layers.append(nn.Conv2d(6, 3, 1))
    else:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, task.outputs)]
    return PlainNetwork(nn.Sequential(*layers).eval(), (2, *SMALL), task.outputs)


@pytest.mark.parametrize(
    ("name", "deep"), [("classification", False), ("regression", True), ("segmentation", False)]
)
@torch.no_grad()
def test_bytes_go_in_and_answers_come_out(name: str, deep: bool) -> None:
    dataset = data(name, deep)
    made = network(dataset.task)
    graph = pictures_graph(to_onnx(made), dataset, SMALL).SerializeToString()
    session = session_of(graph)
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    kind = "uint16" if deep else "uint8"
    assert (given.name, given.type, given.shape) == ("pixels", f"tensor({kind})", [1, *SIZE, 2])
    outputs = made(prepare_images(made, dataset, dataset.search.images))
    wanted = dataset.task.post(
        nn.functional.interpolate(outputs, SIZE, mode="bilinear") if name == "segmentation" else outputs
    )
    found = [
        session.run([answer.name], {"pixels": image.permute(1, 2, 0)[None].numpy().astype(kind)})[0]
        for image in dataset.search.images
    ]
    torch.testing.assert_close(
        torch.from_numpy(np.concatenate(found)).to(wanted), wanted, rtol=1e-4, atol=1e-4
    )
    said = check_pictures(graph, dataset, dataset.search.images, outputs)
    assert (said.images, said.agreement, said.input["type"]) == (12, 1.0, kind)
    with pytest.raises(ExportError, match=r"model_pictures.onnx does not agree.*nothing was kept"):
        check_pictures(graph, dataset, dataset.search.images, outputs.flip(1) + 3)


def test_floats_have_no_such_graph() -> None:
    images = torch.rand(12, 1, 4, 4)
    split = (images, torch.arange(12) % 3)
    assert not takes_pictures(dataset_of((split, split, split)))

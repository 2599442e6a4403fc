"""Chains of networks in every runtime: they answer as the networks one by one, and skip what is not asked."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from numpy.testing import assert_allclose
from support.combinations import combinations
from support.gated import gated_config, undecided
from support.networks import CHANNELS, config, finished, first_confident, noise, one_by_one
from support.profiled import convolutions_run

from dynnas.errors import TargetError
from dynnas.latency.remote.network import RemoteNetwork
from dynnas.latency.runner import build_runner
from dynnas.nn.layers.resize import resize
from dynnas.runtimes.branching import leave_one_after_another
from dynnas.runtimes.cascade import Cascade
from dynnas.runtimes.chaining import chain
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch, to_packed_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.runtimes.runtime import offered_runtimes
from dynnas.runtimes.torch.export import to_pt2
from dynnas.settings.settings import TargetSettings

DATA = noise()


def networks(resolutions=(12, 12, 12), exits=(0, 1, 0), op="static"):
    """Finished networks of their own sizes, the first ones small."""
    made = []
    for seed, (resolution, some) in enumerate(zip(resolutions, exits, strict=True)):
        wanted = replace(config("dwsep", op, exits=some, width=seed + 1), resolution=resolution)
        made.append(finished(wanted, seed=seed))
    return made


@torch.no_grad()
def walked(members, thresholds, image):
    """What an image (1, C, H, W) uint8 is told, network by network, each prepared as it would be alone."""
    for place, network in enumerate(members):
        own = prepare_images(network, DATA, image)
        logits, _ = first_confident(network.segments(), own)
        if place == len(thresholds) or logits.softmax(1).amax() >= thresholds[place]:
            return logits.numpy(), place
    raise AssertionError("the last network has no threshold")


@torch.no_grad()
def thresholds_of(members):
    """By which a third of the images leaves after each network."""
    found = []
    for network, share in zip(members[:-1], (0.67, 0.5), strict=False):
        confidence = network(prepare_images(network, DATA, DATA.search.images)).softmax(1).amax(1)
        found.append(confidence.quantile(share).item() + 1e-3)
    return tuple(found)


def cascade_of(members):
    names = [f"net{place}" for place in range(len(members))]
    return chain(members, thresholds_of(members), names, DATA.size)


CASES = {
    "pair": ((12, 12), (0, 0), "static"),
    "triple with exits": ((12, 12, 12), (1, 2, 1), "static"),
    "mixed sizes": ((8, 12, 16), (0, 1, 0), "static"),
    "larger than the data": ((8, 20), (0, 0), "static"),
    "mixed kernels": ((12, 8), (1, 1), "condconv"),
    "gates": None,
}


def members_of(case):
    """The networks of one of `CASES`."""
    if CASES[case] is None:
        second = undecided(gated_config(("skip", "width")))
        return [*networks((12,), (0,)), second]
    return networks(*CASES[case])


@pytest.fixture(params=CASES, scope="module")
def case(request):
    """Networks, their cascade, its images, and what each image should be told by which network."""
    members = members_of(request.param)
    cascade = cascade_of(members).eval()
    images = DATA.search.images
    expected = [walked(members, cascade.thresholds, image[None]) for image in images]
    logits, stages = np.concatenate([logits for logits, _ in expected]), [stage for _, stage in expected]
    assert set(stages) == set(range(len(members))), "the test needs images for every network"
    return cascade, prepare_images(cascade, DATA, images), logits, stages


def test_a_cascade_takes_images_as_its_networks_do_or_as_the_data_are():
    assert cascade_of(networks((12, 12), (0, 0))).config.size == (12, 12)
    mixed = cascade_of(networks((8, 12), (0, 0)))
    assert mixed.config.size == DATA.size
    x = DATA.normalise(DATA.search.images[:3])
    assert_allclose(mixed.members[0].own(x).numpy(), resize(x, 8).numpy(), atol=1e-5)
    assert [(link.name, link.after) for link in mixed.config.exits] == [("network1", "net0")]


@torch.no_grad()
def test_as_a_module_it_answers_like_its_networks_one_by_one(case):
    cascade, images, logits, stages = case
    assert_allclose(cascade(images).numpy(), logits, rtol=1e-4, atol=1e-4)
    left, taken = leave_one_after_another(cascade.segments(), images)
    assert taken.tolist() == stages
    assert_allclose(left.numpy(), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("case", "make"), combinations(CASES, [to_onnx, to_packed_onnx], every=2), indirect=["case"]
)
def test_the_graph_sends_every_image_to_its_network(case, make):
    cascade, images, logits, stages = case
    model = make(cascade)
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(to_onnx(cascade)), full_check=True)
    runner = OnnxRunner(model.SerializeToString(), threads=1)
    outputs = [runner.outputs(image[None].numpy()) for image in images]
    assert [int(output["exit"][0]) for output in outputs] == stages
    assert_allclose(np.concatenate([output["logits"] for output in outputs]), logits, rtol=1e-4, atol=1e-4)


def test_the_graph_for_batches_computes_all_and_says_the_same(case):
    cascade, images, logits, stages = case
    outputs = OnnxRunner(to_onnx_batch(cascade).SerializeToString(), threads=1).outputs(images.numpy())
    assert outputs["exit"].tolist() == stages
    assert_allclose(outputs["logits"], logits, rtol=1e-4, atol=1e-4)


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    "runtime", [name for name in offered_runtimes("cpu") if name not in ("ncnn", "torch_compile")]
)
def test_every_runtime_runs_it_image_by_image(case, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    cascade, images, logits, _ = case
    runner = build_runner(cascade, TargetSettings(runtime=runtime))
    assert_allclose(one_by_one(runner, images), logits, rtol=2e-3, atol=2e-3)


def test_networks_that_are_not_asked_do_not_run(tmp_path):
    members = networks((12, 12, 12), (0, 0, 0))
    cascade = cascade_of(members)
    model = to_onnx(cascade)
    images = prepare_images(cascade, DATA, DATA.search.images)
    stages = [walked(members, cascade.thresholds, image[None])[1] for image in DATA.search.images]
    each = convolutions_run(to_onnx(members[0]), images[:1].numpy(), tmp_path)
    ran = [
        convolutions_run(model, images[[stages.index(stage)]].numpy(), tmp_path)
        for stage in range(len(members))
    ]
    assert ran == [each, 2 * each, 3 * each]


def test_in_torch_networks_that_are_not_asked_do_not_run():
    calls = []

    def build(network, target):
        made = build_runner(network, target)
        return lambda image: calls.append(network) or made(image)

    from dynnas.runtimes.torch.chain import ChainRunner

    members = networks((12, 12), (0, 0))
    cascade = cascade_of(members)
    runner = ChainRunner(cascade, lambda network: build(network, TargetSettings(runtime="torch")))
    for image in DATA.search.images[:20]:
        calls.clear()
        runner(prepare_images(cascade, DATA, image[None]).numpy())
        assert len(calls) == walked(members, cascade.thresholds, image[None])[1] + 1


@pytest.mark.parametrize("case", combinations(CASES, every=3), indirect=True)
def test_the_exported_program_branches_too(case):
    cascade, images, logits, stages = case
    program = to_pt2(cascade).module()
    with torch.no_grad():
        outputs = [program(image[None]) for image in images[:12]]
    assert [int(stage) for _, stage in outputs] == stages[:12]
    assert_allclose(np.concatenate([one.numpy() for one, _ in outputs]), logits[:12], rtol=1e-4, atol=1e-4)


def test_it_travels_to_a_device_as_one_graph():
    members = networks((12, 8), (0, 1))
    cascade = cascade_of(members)
    target = TargetSettings(device="tcp://somewhere:1", runtime="onnxruntime_portable")
    remote = build_runner(cascade, target)
    assert isinstance(remote, RemoteNetwork)
    image = prepare_images(cascade, DATA, DATA.search.images[:1]).numpy()
    answer = OnnxRunner(remote.artifact.data, threads=1)(image)
    assert_allclose(answer, remote(image), rtol=1e-4, atol=1e-4)
    assert remote.matches(answer, image)
    assert not remote.matches(answer + 1, image)


def test_what_cannot_run_it_says_so():
    cascade = cascade_of(networks((12, 12), (0, 0)))
    with pytest.raises(TargetError, match="cascades decide image by image, and this target has 4 images"):
        build_runner(cascade, TargetSettings(batch=4))


def test_a_chain_of_one_is_the_network_behind_what_makes_its_images():
    (network,) = networks((8,), (0,))
    cascade = Cascade([network], (), ("",), DATA.size)
    image = DATA.normalise(DATA.search.images[:1])
    assert image.shape[1] == CHANNELS
    with torch.no_grad():
        expected = network(resize(image, 8)).numpy()
    runner = build_runner(cascade, TargetSettings())
    assert_allclose(runner(image.numpy()), expected, rtol=1e-4, atol=1e-4)

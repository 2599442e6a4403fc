"""A device that answers nonsense, for ever or not at all costs a trial, and says why."""

import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from support.networks import config, finished, images
from support.served import TOKEN

from dynnas.errors import TargetError
from dynnas.latency.energy import Energy
from dynnas.latency.remote.channel import ChannelError, accept_client
from dynnas.latency.remote.client import Device
from dynnas.latency.remote.replies import Replies
from dynnas.latency.remote.timer import RemoteTimer
from dynnas.latency.rounds import TimingPlan, Workload
from dynnas.latency.runner import build_runner
from dynnas.latency.throttling import ClockState
from dynnas.settings.settings import TargetSettings

MOST = 2**26


@contextmanager
def device(converse, **options):
    """A `Device` whose other end knows the token, and does with every connection what `converse` says."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    converse(accept_client(connection, TOKEN.encode(), MOST), connection)
                except (ChannelError, OSError):
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = Device(f"tcp://127.0.0.1:{listener.getsockname()[1]}", TOKEN.encode(), backoff=(), **options)
    try:
        yield client
    finally:
        client.close()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def always(header, arrays=None):
    def converse(channel, connection):
        while True:
            channel.receive(10)
            channel.send(header, arrays)

    return converse


@pytest.fixture(scope="module")
def workload():
    target = TargetSettings(device="tcp://127.0.0.1:1", runtime="onnxruntime_portable")
    return target, Workload(build_runner(finished(config()), target), list(images(2)[:, None].numpy()))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.full((1, 4), np.nan), r"times of calls in seconds, and answered nan to nan"),
        (np.full((1, 4), np.inf), r"answered inf to inf"),
        (np.full((1, 4), -1.0), r"answered -1\.0 to -1\.0"),
        (np.ones((2, 4)), r"times of 1 networks, and answered float64 \(2, 4\)"),
        (np.ones((1, 0)), r"answered float64 \(1, 0\)"),
        (np.ones(4), r"answered float64 \(4,\)"),
        (np.ones((1, 4), np.int64), r"answered int64 \(1, 4\)"),
        (None, r"times of 1 networks, and answered None"),
    ],
)
def test_times_that_are_none(workload, times, message):
    target, timed = workload
    right = timed.runner(timed.images[0])
    arrays = {"answer.0": right} if times is None else {"answer.0": right, "times": times}
    with device(always({}, arrays)) as client, pytest.raises(TargetError, match=message):
        RemoteTimer(target, client)([timed], (), TimingPlan(seconds=0.01))


@pytest.mark.parametrize("answer", [None, np.zeros((7, 7), np.float32), np.full((1, 5), np.nan, np.float32)])
def test_answers_of_a_network_that_are_none(workload, answer):
    target, timed = workload
    arrays = {"times": np.ones((1, 4)), **({} if answer is None else {"answer.0": answer})}
    with (
        device(always({}, arrays)) as client,
        pytest.raises(TargetError, match="is not what the network says"),
    ):
        RemoteTimer(target, client)([timed], (), TimingPlan(seconds=0.01))


@pytest.mark.parametrize("missing", [["unknown"], "all", [1], {"a": 1}])
def test_what_it_lacks_is_what_was_offered(workload, missing):
    target, timed = workload
    with (
        device(always({"missing": missing})) as client,
        pytest.raises(TargetError, match="digests that it lacks"),
    ):
        RemoteTimer(target, client)([timed], (), TimingPlan(seconds=0.01))


def test_a_device_that_lacks_everything_for_ever_is_given_up(workload):
    target, timed = workload

    def converse(channel, connection):
        while True:
            header, _ = channel.receive(10)
            wanted = [digest for pair in header.get("workloads", []) for digest in pair]
            channel.send({"missing": wanted, "runtimes": [], "most": MOST})

    with device(converse) as client, pytest.raises(TargetError, match="does not keep the"):
        RemoteTimer(target, client)([timed], (), TimingPlan(seconds=0.01))


def test_a_device_that_says_for_ever_that_others_are_timed_is_given_up():
    def converse(channel, connection):
        channel.receive(10)
        while True:
            channel.send({"waiting": True})

    with (
        device(converse, patience=0.05) as client,
        pytest.raises(TargetError, match=r"it has said for 0\.05 seconds that others are being timed"),
    ):
        client.offers()


def test_an_answer_that_never_ends_is_given_up():
    """Its bytes come one by one, each in time, and it is as long as is allowed."""

    def converse(channel, connection):
        channel.receive(10)
        connection.sendall((2**29).to_bytes(8, "big"))
        while True:
            connection.sendall(b"\0")
            time.sleep(0.001)

    with device(converse) as client, pytest.raises(TargetError, match="the connection broke: timed out"):
        client.ask({"ask": "offers"}, seconds=0.2)


@pytest.mark.parametrize(
    "header",
    [{}, {"runtimes": 1, "most": 1}, {"runtimes": [], "most": "much"}, {"runtimes": [], "most": True}],
)
def test_offers_that_are_none(header):
    with (
        device(always(header)) as client,
        pytest.raises(TargetError, match=r"same version of dynnas runs there"),
    ):
        client.offers()


def test_energies_memories_and_environments_are_checked():
    replies = Replies("tcp://box:1")
    good = {"energies": [{"energy_mj": 2.5, "reason": ""}, {"energy_mj": None, "reason": "no counter"}]}
    assert replies.energies(good, 2) == [Energy(2.5), Energy(None, "no counter")]
    for energies in (
        None,
        3,
        [],
        [{"energy_mj": float("nan"), "reason": ""}],
        [{"mj": 1}],
        [{"energy_mj": "x", "reason": ""}],
    ):
        with pytest.raises(TargetError, match="energies of 1 networks"):
            replies.energies({"energies": energies}, 1)
    assert replies.memory_mib({"mib": [3, 4.5]}, 2) == [3.0, 4.5]
    for sizes in (None, [1.0], [1.0, float("inf")], [1.0, -1.0], [1.0, True], [1.0, 1e30]):
        with pytest.raises(TargetError, match="peak memories"):
            replies.memory_mib({"mib": sizes}, 2)
    assert replies.environment({"environment": {"processor": "a" * 5000}}) == {"processor": "a" * 1000}
    for environment in (None, [1], {str(number): "" for number in range(101)}):
        with pytest.raises(TargetError, match="an environment"):
            replies.environment({"environment": environment})


def test_clocks_are_checked():
    replies = Replies("tcp://box:1")
    told = {"mhz": 1500.5, "celsius": -3.0, "throttled": None}
    assert replies.clock({"clock": told}) == ClockState(1500.5, -3.0, None)
    for wrong in (None, 3, {"mhz": "fast"}, {"celsius": float("nan")}, {"throttled": True}):
        with pytest.raises(TargetError, match="the clock and heat of its processor"):
            replies.clock({"clock": wrong})

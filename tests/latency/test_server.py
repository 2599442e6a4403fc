"""A server under fire: nothing that a client sends ends it, and one client is timed at a time."""

import socket
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.served import TOKEN, listening

from dynnas.errors import TargetError
from dynnas.latency.environment import RunConfig
from dynnas.latency.lock import device_lock
from dynnas.latency.remote import channel
from dynnas.latency.remote.blob_cache import BlobCache, digest_of
from dynnas.latency.remote.channel import GREETING, Channel, join_device
from dynnas.latency.remote.client import Device
from dynnas.latency.remote.server import Limits

EXECUTION = asdict(RunConfig("onnxruntime_portable", 1))


def address_of(server):
    host, port = server.address
    return f"tcp://{host}:{port}"


@contextmanager
def device_of(server, token=TOKEN, backoff=(0.05,) * 40):
    with closing(Device(address_of(server), token.encode(), backoff)) as device:
        yield device


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with listening(tmp_path_factory.mktemp("lock"), Limits(message=2**20, idle_seconds=20)) as (server, _):
        yield server


def alive(server):
    with device_of(server) as device:
        assert "onnxruntime" in device.offers()[0]


@given(st.lists(st.binary(max_size=300), max_size=4))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_strangers_get_nowhere(server, parts):
    with socket.create_connection(server.address, timeout=5) as connection:
        assert connection.recv(len(GREETING)) == GREETING
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:  # it has hung up
                break
    alive(server)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("runtime", "threads", "dtype", "batch", "workloads", "anchors", "seconds", "precision", "seed")
HEADERS = st.fixed_dictionaries(
    {"ask": st.sampled_from(["offers", "environment", "put", "time", "energy", "memory"]) | VALUES},
    optional=dict.fromkeys(FIELDS, VALUES),
)


@given(HEADERS, st.booleans())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_client_asks_is_answered(server, header, complete):
    if complete and isinstance(header.get("ask"), str):
        header = EXECUTION | {"seconds": 0, "precision": 0, "seed": 0} | header
    with device_of(server, backoff=()) as device:
        with suppress(TargetError):
            device.ask(header)
        assert device.offers()[1] == 2**20, "on the same connection"


@given(st.binary(max_size=200), st.binary(max_size=200))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_networks_and_images_are_that_clients_failure(server, network, images):
    parts = {digest_of(data): data for data in (network, images)}
    header = {
        "ask": "time",
        **EXECUTION,
        "workloads": [[digest_of(network), digest_of(images)]],
        "anchors": [],
    }
    with device_of(server) as device, pytest.raises(TargetError, match=r"target: device tcp://127.0.0.1"):
        device.ask_with(header | {"seconds": 0, "precision": 0, "seed": 0}, parts)
    alive(server)


def test_a_message_beyond_the_limit_ends_only_that_connection(server):
    with socket.create_connection(server.address) as connection:
        there = join_device(connection, TOKEN.encode(), 2**30)
        with suppress(channel.ChannelError):  # it hangs up, at the latest when all was sent
            there.send({"ask": "put"}, {"data": np.zeros(2**20, np.uint8)})
        with pytest.raises(channel.ChannelError, match=r"closed|broke"):
            there.receive(10)
    alive(server)


def test_a_network_beyond_the_limit_is_a_clear_error(server):
    data = bytes(2**20)
    images = b""
    header = {"ask": "time", **EXECUTION, "workloads": [[digest_of(data), digest_of(images)]]}
    refused = r"a network of 1048576 bytes; the device tcp://\S+ takes messages of"
    with device_of(server) as device, pytest.raises(TargetError, match=refused):
        device.ask_with(header, {digest_of(data): data, digest_of(images): images})


def test_messages_that_are_no_documents_are_answered(server, monkeypatch):
    with device_of(server, backoff=()) as device:
        device.offers()
        real, sent = channel.write_document, iter([b"\0\0\0\1{no document"])
        monkeypatch.setattr(channel, "write_document", lambda *what: next(sent, None) or real(*what))
        with pytest.raises(TargetError, match="a document's JSON is not as it should be"):
            device.ask({"ask": "offers"})
        assert device.offers()[1] == 2**20


def test_another_token_is_refused_at_once(server):
    with (
        device_of(server, "another-token-than-theirs") as device,
        pytest.raises(TargetError, match=r"the device has another token; give this machine the one"),
    ):
        device.offers()


def test_more_clients_than_it_takes_are_sent_away(tmp_path):
    with listening(tmp_path, Limits(clients=1)) as (server, _):
        with device_of(server) as first, device_of(server, backoff=()) as second:
            first.offers()
            with pytest.raises(TargetError, match="as many clients as it takes"):
                second.offers()
        alive(server)


def test_strangers_take_no_clients_place(tmp_path):
    with listening(tmp_path, Limits(clients=1)) as (server, _), ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(socket.create_connection(server.address))
        alive(server)


def test_who_waits_for_another_client_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("dynnas.latency.lock.TRY_AGAIN_SECONDS", 0.02)
    told, real = threading.Event(), Channel.receive_whole

    def receive(self, seconds):
        reply = real(self, seconds)
        if reply[0].get("waiting"):
            told.set()
        return reply

    monkeypatch.setattr(Channel, "receive_whole", receive)
    with listening(tmp_path) as (server, _):
        header = {"ask": "energy", **EXECUTION, "workloads": [], "anchors": [], "seconds": 0}
        found = []
        with device_of(server) as device:
            with device_lock("cpu", tmp_path):
                asking = threading.Thread(target=lambda: found.append(device.ask(header, seconds=5)))
                asking.start()
                assert told.wait(10)
                assert not found
            asking.join(10)
        assert found[0][0] == {"energies": []}


def test_a_lost_device_is_tried_again_and_then_given_up():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    slept = []
    device = Device(f"tcp://127.0.0.1:{port}", TOKEN.encode(), (0.5, 1.0, 2.0), slept.append)
    with pytest.raises(TargetError, match=rf"device tcp://127.0.0.1:{port} cannot be reached .*dynnas serve"):
        device.offers()
    assert slept == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("port", ["0", "65536"])
def test_a_port_that_none_has_is_refused(port):
    with pytest.raises(TargetError, match=f"found the port '{port}'; allowed: from 1 to 65535"):
        Device(f"tcp://[::1]:{port}", TOKEN.encode())


def test_a_store_forgets_what_was_not_used_for_longest():
    store = BlobCache(10)
    a, b = store.put(b"aaaa"), store.put(b"bbbb")
    assert store.get([a]) == ({a: b"aaaa"}, [])
    c = store.put(b"cccc")
    assert store.get([a, b, c]) == ({a: b"aaaa", c: b"cccc"}, [b])
    whole = store.put(b"larger than all of it")
    assert store.get([whole, c])[1] == [c]

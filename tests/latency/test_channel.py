"""The connection: who does not know the token gets nowhere, and nothing on the way can be changed unseen."""

import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from dynnas.latency.remote.channel import GREETING, ChannelError, WrongTokenError, accept_client, join_device

TOKEN = b"the secret of both ends"
MOST = 10_000


@contextmanager
def pair(device_token=TOKEN, most=MOST):
    """Both ends of a connection, and the sockets below."""
    here, there = socket.socketpair()
    accepted = []

    def accept():
        try:
            accepted.append(accept_client(there, device_token, most))
        except (WrongTokenError, ChannelError) as error:
            accepted.append(error)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        client = join_device(here, TOKEN, MOST)
        thread.join()
        yield client, accepted[0], here, there
    finally:
        here.close()
        thread.join()
        there.close()


def test_both_talk():
    with pair() as (client, device, *_):
        for number in range(3):
            client.send({"number": number}, {"image": np.full((2, 2), number, np.float32)})
            header, arrays = device.receive(5)
            assert header == {"number": number}
            assert np.array_equal(arrays["image"], np.full((2, 2), number, np.float32))
            device.send({"back": number})
            assert client.receive(5) == ({"back": number}, {})


def test_a_device_with_another_token_is_refused():
    with (
        pytest.raises(WrongTokenError, match="the device has another token"),
        pair(b"another secret of theirs"),
    ):
        pass


def test_a_device_that_only_pretends_is_refused_and_does_not_see_the_token():
    here, there = socket.socketpair()
    with here, there:
        there.sendall(GREETING + bytes(32) + b"+" + bytes(32))
        with pytest.raises(WrongTokenError, match="does not know the token"):
            join_device(here, TOKEN, MOST)
        assert TOKEN not in there.recv(1000)


def test_something_else_that_answers_is_named():
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
        with pytest.raises(ChannelError, match=r"no device of this dynnas: it says b'SSH-2\.0"):
            join_device(here, TOKEN, MOST)


@pytest.mark.parametrize("tamper", ["change", "repeat", "leave out", "reflect"])
def test_what_is_tampered_with_is_refused(tamper):
    with pair() as (client, device, here, there):
        client.send({"ask": "first"})
        first = there.recv(1000)
        client.send({"ask": "second"})
        second = there.recv(1000)
        if tamper == "reflect":
            there.sendall(first)
            with pytest.raises(ChannelError, match="does not come from the other end"):
                client.receive(5)
            return
        sent = {
            "change": first.replace(b"first", b"worst"),
            "repeat": first + first,
            "leave out": second,
        }[tamper]
        here.sendall(sent)
        if tamper == "repeat":
            assert device.receive(5)[0] == {"ask": "first"}
        with pytest.raises(ChannelError, match="does not come from the other end"):
            device.receive(5)


def test_long_messages_are_refused_at_both_ends():
    with pair() as (client, device, here, _):
        with pytest.raises(ChannelError, match=r"a message of \d+ bytes; at most 10000 are allowed"):
            client.send({"ask": "x" * MOST})
        here.sendall((2**60).to_bytes(8, "big"))
        with pytest.raises(ChannelError, match=f"a message of {2**60} bytes; at most 10000"):
            device.receive(5)


def test_a_silent_end_is_not_waited_for():
    with pair() as (_, device, *_), pytest.raises(ChannelError, match="timed out"):
        device.receive(0.05)

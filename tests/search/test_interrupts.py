"""Ctrl-C in the middle of something that must not be left half done."""

import signal
import threading

import pytest

from dynnas.search.storage.interrupts import check_sigint, defer_sigint


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_a_block_is_done_before_it_interrupts() -> None:
    done = []

    def work() -> None:
        with defer_sigint():
            with defer_sigint():
                press()
                done.append("inner")
            done.append("outer")
        done.append("after")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner", "outer"]
    with pytest.raises(KeyboardInterrupt):  # as before
        press()


def test_pressed_twice_it_interrupts_at_once() -> None:
    done = []

    @defer_sigint()
    def work() -> None:
        press()
        done.append("once")
        press()
        done.append("twice")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["once"]


def test_it_interrupts_where_the_block_fails_too() -> None:
    @defer_sigint()
    def work() -> None:
        press()
        raise ValueError("no such table")

    with pytest.raises(KeyboardInterrupt) as caught:
        work()
    assert isinstance(caught.value.__context__, ValueError)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_where_nothing_is_half_done_it_is_let_through() -> None:
    done = []

    @defer_sigint()
    def work() -> None:
        check_sigint()
        press()
        done.append("pressed")
        check_sigint()
        done.append("after")

    check_sigint()
    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["pressed"]


def test_other_threads_and_who_ignores_it_are_left_alone() -> None:
    found = []

    def see() -> None:
        with defer_sigint():
            found.append(signal.getsignal(signal.SIGINT))

    other = threading.Thread(target=see)
    other.start()
    other.join()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        see()
    finally:
        signal.signal(signal.SIGINT, before)
    assert found == [signal.default_int_handler, signal.SIG_IGN]

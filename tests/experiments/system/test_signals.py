"""Signals that ask a program to end."""

import signal

import pytest

from experiments.system import signals


@pytest.fixture(autouse=True)
def heard():
    """SIGINT as in a terminal: a shell's background processes ignore it, and it stays ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_is_told_and_a_second_ctrl_c_ends_at_once(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    before = signal.getsignal(signal.SIGINT)
    with signals.collected("ends soon") as received:
        signal.raise_signal(signal.SIGINT)
        assert capsys.readouterr().err == "\nSIGINT: ends soon\n"
        now[0] += 0.5
        signal.raise_signal(signal.SIGINT)  # the same press, passed on by another program
        now[0] += 1
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGINT, signal.SIGINT, signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before
    assert capsys.readouterr().err == ""


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with signals.collected() as received:
        signal.raise_signal(signal.SIGINT)
    assert received == []


def test_without_words_all_are_collected(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with signals.collected() as received:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
            now[0] += 9
    assert received == [signal.SIGINT] * 3
    assert capsys.readouterr().err == ""

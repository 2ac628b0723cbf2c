"""worldjepa.data.workers: what a pool's contexts change, they put back; test_collect.py tests the rest."""

import os
import signal
import threading

import pytest

from worldjepa.data.workers import cores, ctrl_c_noted, ctrl_c_waits, one_thread_each


def test_cores_are_those_that_this_process_may_use():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert cores() == len(before)


def test_libraries_get_one_thread_and_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with one_thread_each():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_ctrl_c_is_noted_and_interrupts_nothing():
    before = signal.getsignal(signal.SIGINT)
    with ctrl_c_noted() as noted:
        assert noted == []
        signal.raise_signal(signal.SIGINT)
        assert noted == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_waits_until_processes_are_started():
    with ctrl_c_noted() as noted:
        with ctrl_c_waits():
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert noted == []
        assert noted == [signal.SIGINT]

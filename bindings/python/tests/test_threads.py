# SPDX-License-Identifier: MIT
"""Threads, interrupts and forks: what a call does to the rest of the process."""

import contextlib
import os
import signal
import threading
import time

import numpy as np
import pytest

import natten


def long_call(seconds=8):
    """A call that lasts at least `seconds` on any machine, unless it is stopped."""
    side = 96
    while True:
        q = np.random.default_rng(1).random((1, side, side, 1, 16))
        start = time.perf_counter()
        natten.na2d(
            q[:, :, : side // 8],
            q[:, :, : side // 8],
            q[:, :, : side // 8],
            11,
            backend="reference",
        )
        took = time.perf_counter() - start
        if took > 0.02:
            break
        side *= 2
    # The reference backend's time is proportional to batch and to the window's area.
    batch = int(np.ceil(seconds / (8 * took)))
    q = np.broadcast_to(q, (batch, *q.shape[1:]))
    return lambda: natten.na2d(q, q, q, 11, backend="reference")


@pytest.fixture(scope="module")
def endless():
    return long_call()


def test_other_threads_run_while_a_call_computes():
    call = long_call(0.5)
    turns, done = [0], threading.Event()

    def count():
        while not done.is_set():
            turns[0] += 1

    counter = threading.Thread(target=count)
    call()
    counter.start()
    before, start = turns[0], time.perf_counter()
    call()
    took, during = time.perf_counter() - start, turns[0] - before
    done.set()
    counter.join()
    # A call that kept the interpreter would leave only the turns around it: some tens
    # of microseconds' worth.  A turn takes about 50 ns; ask for a tenth of that speed.
    assert during > took * 2e6 / 10


def test_calls_from_many_threads_are_right():
    rng = np.random.default_rng(3)
    problems = [
        [rng.normal(size=(2, 9 + i, 7, 2, 5)) for _ in range(3)] for i in range(4)
    ]
    expected = [natten.na2d(*p, 5) for p in problems]
    wrong = []

    def work(i):
        for _ in range(20):
            if natten.na2d(*problems[i], 5).tobytes() != expected[i].tobytes():
                wrong.append(i)
            try:
                natten.na2d(*problems[i], 5 + 2 * i + 6)
            except ValueError as error:  # this thread's sentence, not another's
                if f"={5 + 2 * i + 6} " not in str(error):
                    wrong.append(str(error))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_number_of_threads_leaves_the_bits_alone(random, dtype):
    q, k, v, g = (random.normal(size=(1, 23, 19, 3, 8)).astype(dtype) for _ in range(4))
    bias = random.normal(size=(3, 13, 13)).astype(dtype)
    results = []
    for threads in (1, 2, 3, 7):
        natten.set_num_threads(threads)
        assert natten.get_num_threads() == threads
        gradients = natten.na_backward(q, k, v, g, 7, bias=bias)
        out = natten.na2d(q, k, v, 7, bias=bias)
        results.append(
            b"".join(x.tobytes() for x in (out, *gradients) if x is not None)
        )
    assert results[1:] == results[:1] * 3


def test_every_cpu_variant_computes_the_same_within_rounding(random):
    q, k, v = (random.normal(size=(1, 11, 13, 2, 8)) for _ in range(3))
    exact = natten.na2d(q, k, v, 5, backend="reference")
    variants = natten.cpu_variants()
    assert variants
    for name in variants:
        natten.set_cpu_variant(name)
        # 25 keys, 8 dims, numbers below 5: section 12's bound stays below 2^-42.
        assert np.abs(natten.na2d(q, k, v, 5) - exact).max() < 2.0**-42


# ---- Ctrl-C --------------------------------------------------------------------------


def interrupted(call, after=0.3):
    """Press Ctrl-C during a call: seconds until its end, by KeyboardInterrupt.

    On a busy machine, the seconds that each thread had a processor until then: what
    other processes take is not the call's delay.
    """
    sent = []

    def now():
        return time.perf_counter(), time.process_time() / natten.get_num_threads()

    def press():
        sent.extend(now())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(after, press)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
        return min(end - begin for begin, end in zip(sent, now()))
    finally:
        timer.cancel()  # a call that failed must not have the whole run interrupted
        timer.join()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("operation", ["forward", "backward"])
def test_ctrl_c_ends_a_call_within_a_fifth_of_a_second(operation, backend):
    # 2^16 tokens that see nearly all of each other: 4 Tflop, seconds on any machine.
    q = np.broadcast_to(np.float64(0.5), (4, 256, 256, 1, 64))
    lse = np.broadcast_to(np.float64(0), q.shape[:-1])
    options = dict(kernel_size=251, backend=backend)
    calls = {
        "forward": lambda: natten.na2d(q, q, q, **options),
        "backward": lambda: natten.na_backward(q, q, q, q, out=q, lse=lse, **options),
    }
    latencies = [interrupted(calls[operation]) for _ in range(3)]
    # The machine may be busy with something else once; not three times.
    assert min(latencies) < 0.2, latencies


@contextlib.contextmanager
def alarm(handler, first, again=0):
    """SIGALRM goes to the handler, after so many seconds, and again every so many."""
    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, first, again)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_a_handlers_own_exception_comes_through(endless):
    class Alarm(Exception):
        pass

    def handler(number, frame):
        raise Alarm("time is up")

    with alarm(handler, 0.2), pytest.raises(Alarm, match="time is up"):
        endless()


def test_a_handler_that_returns_lets_the_call_go_on():
    call = long_call(1)
    heard = []
    with alarm(lambda number, frame: heard.append(number), 0.1):
        before = call()
    assert heard == [signal.SIGALRM] and before.tobytes() == call().tobytes()


def test_a_handler_that_computes_leaves_the_call_hearing(endless):
    class Alarm(Exception):
        pass

    heard = []

    def handler(number, frame):
        heard.append(natten.na1d(q, q, q, 3))
        if len(heard) == 3:
            raise Alarm("time is up")

    q = np.ones((1, 9, 2, 4))
    with alarm(handler, 0.2, 0.2), pytest.raises(Alarm, match="time is up"):
        endless()
    assert all((out == 1).all() for out in heard)


def test_the_library_works_after_an_interrupted_call(random, endless):
    interrupted(endless)
    q, k, v = (random.normal(size=(1, 9, 2, 4)) for _ in range(3))
    assert natten.na1d(q, k, v, 3).tobytes() == natten.na1d(q, k, v, 3).tobytes()


# ---- fork ----------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes(random):
    natten.set_num_threads(2)
    q, k, v = (random.normal(size=(1, 31, 29, 2, 8)) for _ in range(3))
    expected = natten.na2d(q, k, v, 7).tobytes()  # the pool's threads exist now
    child = os.fork()
    if child == 0:
        same = natten.na2d(q, k, v, 7).tobytes() == expected
        os._exit(0 if same else 1)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")

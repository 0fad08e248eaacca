"""A few requests run, a few wait, the others are told so at once; who goes away costs nothing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from colreduce_service.admission import Admission
from colreduce_service.deadline import Deadline
from grpc_health.v1 import health, health_pb2_grpc

from colreduce import Client
from colreduce.errors import DeadlineExceeded, Overloaded, Unavailable
from colreduce.rpc.v1 import search_pb2, search_pb2_grpc
from tests.service.running import guarding, until

QUERY = [[1.0, 0.0]]


class Slow(search_pb2_grpc.SearchServicer):
    """Answers when it is allowed to, and keeps count."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.started = 0

    def Search(self, request: Any, context: Any) -> Any:
        self.started += 1
        self.go_on.wait(10)
        return search_pb2.SearchResponse(generation=1)


class Place:
    """A server with one place to run and two to wait."""

    def __init__(self) -> None:
        self.slow = Slow()
        self.admission = Admission(workers=1, queue=2)
        self.admission.open()
        self.guard = guarding(self.admission)
        self.server = grpc.server(ThreadPoolExecutor(16), interceptors=[self.guard])
        search_pb2_grpc.add_SearchServicer_to_server(self.slow, self.server)
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def until(self, in_flight: int) -> None:
        end = time.monotonic() + 5
        while self.admission.in_flight != in_flight:
            assert time.monotonic() < end, f"{self.admission.in_flight} requests are in flight"
            time.sleep(0.005)


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.slow.go_on.set()
    made.server.stop(0).wait()
    made.guard.close()


def test_beyond_the_queue_requests_are_turned_away_at_once_and_health_answers(
    place: Place,
) -> None:
    with Client(place.address, timeout=10) as client, ThreadPoolExecutor(3) as pool:
        inside = [pool.submit(client.search, QUERY) for _ in range(3)]
        place.until(3)
        began = time.monotonic()
        with pytest.raises(Overloaded, match="1 requests run and 2 wait"):
            client.search(QUERY)
        assert client.health() == "SERVING"
        assert time.monotonic() - began < 1
        assert place.slow.started == 1
        place.slow.go_on.set()
        assert [future.result() for future in inside] == [[], [], []]
    assert place.slow.started == 3


def test_a_request_whose_time_is_up_while_it_waits_is_never_started(place: Place) -> None:
    with Client(place.address, timeout=10) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.search, QUERY)
        place.until(1)
        with pytest.raises(DeadlineExceeded):
            client.search(QUERY, timeout=0.1)
        place.until(1)
        place.slow.go_on.set()
        assert first.result() == []
    assert place.slow.started == 1


def test_a_caller_that_goes_away_gives_its_place_in_the_queue_back(place: Place) -> None:
    with grpc.insecure_channel(place.address) as channel:
        stub = search_pb2_grpc.SearchStub(channel)
        calls = [stub.Search.future(search_pb2.SearchRequest(), timeout=10) for _ in range(3)]
        place.until(3)
        waiting = [call for call in calls if not call.done()][1:]
        waiting[0].cancel()
        waiting[1].cancel()
        # One of the two may have been the running one; its handler goes on, its place stays.
        end = time.monotonic() + 5
        while place.admission.in_flight > 2 and time.monotonic() < end:
            time.sleep(0.005)
        assert place.admission.in_flight <= 2
        place.slow.go_on.set()
        place.until(0)
    assert place.slow.started <= 2


def test_waiting_requests_run_in_the_order_of_their_arrival() -> None:
    admission, order = Admission(workers=1, queue=8), []
    admission.open()
    release = threading.Event()

    def run(name: int) -> None:
        with admission.enter(Present(), Forever()):  # type: ignore[arg-type]
            order.append(name)
            release.wait(5)

    threads = []
    for name in range(5):
        threads.append(threading.Thread(target=run, args=(name,)))
        threads[-1].start()
        while admission.in_flight != name + 1:
            time.sleep(0.001)
    release.set()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_closed_admission_says_why_and_lets_those_inside_finish(place: Place) -> None:
    with Client(place.address, timeout=10) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.search, QUERY)
        place.until(1)
        place.admission.close("the server is shutting down")
        with pytest.raises(Unavailable, match="shutting down"):
            client.search(QUERY)
        place.slow.go_on.set()
        assert first.result() == []
    assert place.admission.in_flight == 0


def test_who_waits_for_something_else_lends_its_place_and_is_the_next_to_get_one() -> None:
    admission, order = Admission(workers=1, queue=8), []
    admission.open()
    encoded, release = threading.Event(), threading.Event()

    def text() -> None:
        with admission.enter(Present(), Forever()):  # type: ignore[arg-type]
            with admission.outside(Present(), Forever()):  # type: ignore[arg-type]
                order.append("outside")
                encoded.wait(5)
            order.append("back")

    def vectors(name: str) -> None:
        with admission.enter(Present(), Forever()):  # type: ignore[arg-type]
            order.append(name)
            release.wait(5)

    threads = [threading.Thread(target=text)]
    threads[0].start()
    until(lambda: order == ["outside"])
    for name in ("first", "second"):
        threads.append(threading.Thread(target=vectors, args=(name,)))
        threads[-1].start()
        until(lambda: admission.in_flight == len(threads))
    encoded.set()
    until(lambda: len(admission._waiting) == 2)
    release.set()
    for thread in threads:
        thread.join()
    assert order == ["outside", "first", "back", "second"]
    assert (admission.in_flight, admission._running) == (0, 0)


def test_those_outside_count_as_waiting_and_leave_no_place_behind_when_they_fail() -> None:
    admission = Admission(workers=1, queue=1)
    admission.open()
    going, stay = threading.Event(), threading.Event()

    def text() -> None:
        with (
            contextlib.suppress(ZeroDivisionError),
            admission.enter(Present(), Forever()),  # type: ignore[arg-type]
            admission.outside(Present(), Forever()),  # type: ignore[arg-type]
        ):
            going.set()
            stay.wait(5)
            raise ZeroDivisionError

    threads = [threading.Thread(target=text) for _ in range(2)]
    for thread in threads:
        going.clear()
        thread.start()
        assert going.wait(5)
    with pytest.raises(Overloaded, match="0 requests run and 2 wait"):
        admission.require_room()
    stay.set()
    for thread in threads:
        thread.join()
    assert (admission.in_flight, admission._running) == (0, 0)
    admission.require_room()


class Present:
    """A caller that stays."""

    def add_callback(self, callback: Any) -> bool:
        return True


class Forever:
    """A deadline that does not come."""

    def left(self) -> float:
        return 5.0

    def check(self, needed: float = 0.0) -> None:
        return None


class Caller:
    """What admission asks gRPC about a caller."""

    def add_callback(self, callback: Any) -> bool:
        return True

    def is_active(self) -> bool:
        return True

    def time_remaining(self) -> float:
        return 5.0


def test_one_slow_request_says_little_about_the_next_but_many_do() -> None:
    admission = Admission(workers=1)
    admission.open()
    before = admission.queue
    caller: Any = Caller()
    with admission.enter(caller, Deadline(caller)):
        time.sleep(0.3)
    assert admission.queue == before > 1
    for _ in range(12):
        with admission.enter(caller, Deadline(caller)):
            time.sleep(0.1)
    assert admission.queue < before / 2

"""Processes that meet, wait for each other and end together; here they are threads."""

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pylib import RunFailed, UserError, rendezvous
from pylib.launching import free_ports
from pylib.rendezvous import Rendezvous


@pytest.fixture
def addresses():
    return [f'localhost:{port}' for port in free_ports(3)]


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(rendezvous, 'TELLING', 2)
    monkeypatch.setattr(rendezvous, 'STRANGER', .5)
    monkeypatch.setattr(rendezvous, 'NOTICE', .3)
    monkeypatch.setattr(rendezvous, 'NAMING', .3)


def outcomes(*calls):
    """What functions that are called at once return, or the errors that they raise."""
    def outcome(call):
        try:
            return call()
        except (UserError, RunFailed) as error:
            return error
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(outcome, calls))


def meeting(addresses, rank, timeout=20, delay=0., **brought):
    """A function that lets a process meet the others."""
    place = Rendezvous(addresses, rank, timeout)

    def meet():
        time.sleep(delay)
        return place.meet(**brought)
    meet.place = place
    return meet


def test_all_learn_what_each_brings_and_wait_for_each_other(addresses):
    """One comes late, and a stranger knocks."""
    meets = [meeting(addresses, rank, facts={'rank': rank}, delay=.5 * rank) for rank in range(3)]

    def stranger():
        time.sleep(.2)
        port = int(addresses[0].rpartition(':')[2])
        with socket.create_connection(('localhost', port)) as connection:
            connection.sendall(b'GET / HTTP/1.1\r\n\r\n')
    *met, _ = outcomes(*meets, stranger)
    assert met == [[{'rank': 0}, {'rank': 1}, {'rank': 2}]] * 3
    places = [meet.place for meet in meets]
    passed = []

    def pass_barriers(place, pause):
        for number in range(3):
            time.sleep(pause)
            brought = place.exchange([number, place._rank])
            assert brought == [[number, rank] for rank in range(3)]
            passed.append(number)
    outcomes(*[lambda place=place, pause=.05 * number: pass_barriers(place, pause)
               for number, place in enumerate(places)])
    assert passed == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for place in places:
        place.leave()


def test_whoever_is_missing_is_named(addresses, capsys):
    errors = outcomes(*[meeting(addresses, rank, timeout=1) for rank in (0, 2)])
    assert [str(error) for error in errors] == [
        f'worker 1 ({addresses[1]}) did not come within 1 s'] * 2
    assert [error.exit_status for error in errors] == [1, 1]
    assert f'waiting for worker 1 ({addresses[1]})' in capsys.readouterr().out
    error, = outcomes(meeting(addresses, 1, timeout=.5))
    assert str(error) == f'worker 0 ({addresses[0]}): nothing answers there; waited 0.5 s'


def test_an_error_of_one_ends_all(addresses):
    """With one line each, and the same exit status."""
    errors = outcomes(meeting(addresses, 0), meeting(addresses, 1, error=('no such data', 2)),
                      meeting(addresses, 2, delay=.3))
    assert {type(error) for error in errors} == {UserError}
    assert [str(error) for error in errors] == [
        'worker 1: no such data', 'worker 1: no such data', 'worker 1: no such data']
    errors = outcomes(meeting(addresses, 0, error=('in use', 2)), meeting(addresses, 1),
                      meeting(addresses, 2))
    assert [str(error) for error in errors] == ['in use', 'worker 0: in use', 'worker 0: in use']


def test_what_a_meeting_has_failed_for_is_not_told_again(addresses, capsys):
    """To those who know it and have gone, for whom it would wait."""
    meets = [meeting(addresses, 0, error=('in use', 2)),
             *[meeting(addresses, rank) for rank in (1, 2)]]
    errors = outcomes(*meets)
    begin = time.monotonic()
    for meet, error in zip(meets, errors):
        meet.place.leave((str(error), 2))
    assert time.monotonic() < begin + 1
    assert not capsys.readouterr().out


def test_a_port_in_use_is_named_by_all(addresses):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(('', int(addresses[1].rpartition(':')[2])))
        taken.listen(1)
        errors = outcomes(*[meeting(addresses, rank) for rank in range(3)])
    assert {str(error).partition(' (Address')[0] for error in errors} == {
        f'worker 1 ({addresses[1]}): cannot listen on its port'}
    assert {error.exit_status for error in errors} == {2}


def test_an_unknown_host_is_named_by_all(addresses):
    addresses[1] = 'no-such-host.invalid:2222'
    began = time.monotonic()
    errors = outcomes(*[meeting(addresses, rank) for rank in (0, 2)])
    assert {str(error) for error in errors} == {
        'worker 1 (no-such-host.invalid:2222): no host of that name is known'}
    assert time.monotonic() - began > .3    # it might have become known


def test_a_host_may_become_known_while_it_is_waited_for(addresses, monkeypatch):
    known, began = socket.getaddrinfo, time.monotonic()
    addresses = [address.replace('localhost', 'late.invalid') for address in addresses]

    def getaddrinfo(host, *arguments, **options):
        if host == 'late.invalid':
            if time.monotonic() < began + .2:
                raise socket.gaierror
            host = 'localhost'
        return known(host, *arguments, **options)
    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    assert outcomes(*[meeting(addresses, rank, facts=rank) for rank in range(3)]) == [
        [0, 1, 2]] * 3


def test_an_address_of_elsewhere_is_named_by_all(addresses, monkeypatch):
    """Worker 1 is here, but its address is that of another machine."""
    listener = rendezvous._listener
    elsewhere = int(addresses[1].rpartition(':')[2])
    monkeypatch.setattr(rendezvous, '_listener', lambda port: listener(
        free_ports(1)[0] if port == elsewhere else port))
    errors = outcomes(*[meeting(addresses, rank) for rank in range(3)])
    assert {str(error) for error in errors} == {
        f'worker 1 ({addresses[1]}): has come from elsewhere, nothing answers under that address'}


def test_two_of_one_rank_and_one_of_other_workers_are_refused(addresses):
    errors = outcomes(meeting(addresses, 0), meeting(addresses, 1),
                      meeting(addresses, 1, delay=.3), meeting(addresses, 2, delay=.6))
    # The second one cannot listen on the port of the first.
    assert {str(error).partition(' (Address')[0] for error in errors} == {
        f'worker 1 ({addresses[1]}): cannot listen on its port'}
    others = [addresses[0], addresses[2]]
    errors = outcomes(meeting(addresses, 0), meeting(addresses, 1, delay=.2), meeting(others, 1))
    assert {str(error) for error in errors} == {
        f'worker 1 was started for other workers ({", ".join(others)}) than worker 0 '
        f'({", ".join(addresses)})'}


def test_what_does_not_wait_for_workers_is_named(addresses):
    """A worker too many or too late: the training has begun."""
    with socket.socket() as server:
        server.bind(('', int(addresses[0].rpartition(':')[2])))
        server.listen(8)

        def refuse():
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()
        threading.Thread(target=refuse, daemon=True).start()
        error, = outcomes(meeting(addresses, 1))
        server.shutdown(socket.SHUT_RDWR)
    assert 'what answers there does not wait for workers; has the training begun' in str(error)


@pytest.fixture
def exits(monkeypatch):
    """Exit statuses with which threads would have ended the process."""
    statuses = []
    monkeypatch.setattr(rendezvous, 'GRACE', 0)
    monkeypatch.setattr(rendezvous.os, '_exit', statuses.append)
    return statuses


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(.02)
    assert condition()


@pytest.mark.parametrize('gone', [0, 1])
def test_the_end_of_one_ends_the_others(addresses, exits, capsys, gone):
    meets = [meeting(addresses, rank) for rank in range(3)]
    outcomes(*meets)
    meets[gone].place._channels[1 - gone if gone else 1].close()    # as the system does
    meets[gone].place.close()
    wait_for(lambda: len(exits) >= 2)
    assert set(exits) == {1}
    said = f'error: worker {gone} ({addresses[gone]}) is gone: it was killed, or its machine or '
    assert said in capsys.readouterr().err


def test_what_one_failed_for_is_what_the_others_end_with(addresses, exits):
    places = [meeting(addresses, rank) for rank in range(3)]
    outcomes(*places)
    places[1].place.leave(('the disk is full', 1))
    for place in (places[0].place, places[2].place):
        with pytest.raises(RunFailed, match='^worker 1: the disk is full$'):
            place.raise_if_lost(5)
        with pytest.raises(RunFailed, match='^worker 1: the disk is full$'):
            place.exchange()
    wait_for(lambda: len(exits) == 2)


def test_messages_that_are_none_end_a_connection():
    here, there = socket.socketpair()
    channel = rendezvous.Channel.__new__(rendezvous.Channel)
    channel._connection, channel._received = here, b''
    there.sendall(json.dumps({'a': 1}).encode() + b'\n{"a"\n[1]\n')
    assert channel.receive() == {'a': 1}
    assert channel.has_message()
    assert [channel.receive(), channel.receive()] == [None, None]
    assert channel.receive(time.monotonic() + .05) is None
    there.close()
    here.close()


@pytest.mark.parametrize('address', ['a', 'a:', ':1', 'a:x', 'a:0', 'a:65536', 'a:²', 3, None])
def test_addresses_are_checked(address):
    with pytest.raises(UserError, match='expected host:port'):
        rendezvous.split_address(address)
    assert rendezvous.split_address('[::1]:22') == ('::1', 22)

"""Sockets of workers: bound once, spread over by the kernel, and not shared with another gateway."""

import socket

import pytest

from aibridge.share import Share, bind


@pytest.fixture
def bound():
    made = []

    def make(*arguments):
        made.append(bind(*arguments))
        return made[-1]

    yield make
    for slots in made:
        for slot in slots:
            for one in slot:
                one.close()


def test_all_slots_have_one_port(bound):
    slots = bound("127.0.0.1", 0, 3)
    assert len({one.getsockname() for slot in slots for one in slot}) == 1
    assert [len(slot) for slot in slots] == [1, 1, 1]
    with pytest.raises(ConnectionRefusedError):  # bound, and nobody listens yet
        socket.create_connection(slots[0][0].getsockname()).close()


def test_a_name_of_two_addresses_has_one_port_on_both(bound, monkeypatch):
    found = [(family, socket.SOCK_STREAM, 0, "", (host, 0)) for family, host in
             ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2"))]  # fmt: skip
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    slots = bound("both", 0, 2)
    assert [[one.getsockname()[0] for one in slot] for slot in slots] == [["127.0.0.1", "127.0.0.2"]] * 2
    assert len({one.getsockname()[1] for slot in slots for one in slot}) == 1


def test_a_port_that_another_supervisor_has_is_not_shared(bound):
    (slot,) = bound("127.0.0.1", 0, 1)
    slot[0].listen()
    with pytest.raises(OSError, match=str(slot[0].getsockname()[1])):
        bound("127.0.0.1", slot[0].getsockname()[1], 2)


def test_a_share_is_read_as_it_was_written():
    share = Share(1, "abcd", 5, 6, [[7, 8], [9, 10]])
    assert Share.of_argument(share.argument()) == share

"""What an exchange needs is kept ready by as many connections as are busy at once, and not by all that are idle."""

from __future__ import annotations

from collections.abc import Callable

from sidecar.proxy.live import MAX_WARM, WarmConnections
from tests.support.fakes import World

Make = Callable[..., World]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Connection:
    """Idle, or not."""

    def __init__(self, *, is_idle: bool) -> None:
        self.is_idle = is_idle
        self.is_warm = True

    def cool_down(self) -> bool:
        """Unless it is busy."""
        self.is_warm = not self.is_idle
        return self.is_idle


def test_the_first_to_be_ready_is_the_first_to_give_up() -> None:
    """So many are warm, and no more."""
    warm = WarmConnections()
    connections = [Connection(is_idle=True) for _ in range(MAX_WARM + 10)]
    for connection in connections:
        warm.add(connection)
    assert [connection.is_warm for connection in connections] == [False] * 10 + [True] * MAX_WARM
    assert len(warm) == MAX_WARM


def test_who_is_busy_keeps_what_it_has() -> None:
    """However many that are; once they are idle, the crowd becomes small again."""
    warm = WarmConnections()
    busy = [Connection(is_idle=False) for _ in range(2 * MAX_WARM)]
    for connection in busy:
        warm.add(connection)
    assert all(connection.is_warm for connection in busy)
    for connection in busy:
        connection.is_idle = True
    for _ in range(MAX_WARM):
        warm.add(Connection(is_idle=True))
    assert len(warm) == MAX_WARM


def test_who_is_gone_is_forgotten() -> None:
    """Nothing here keeps a connection that is closed."""
    warm = WarmConnections()
    connection = Connection(is_idle=True)
    warm.add(connection)
    warm.remove(connection)
    warm.remove(connection)
    assert len(warm) == 0


def test_a_connection_that_cooled_down_is_served_again(world: World) -> None:
    """Between two requests; what was known of it as a connection stays."""
    client = world.client()
    client.get()
    server = world.accept()
    assert not client.connection.cool_down()  # its exchange is running
    _ = server >> OK
    assert client.connection.cool_down()
    client.connection.announce_close()
    client.get(b"/again")
    _ = server >> OK
    assert [response.headers.get(b"connection") for response in client.responses(b"GET", b"GET")] == [None, b"close"]
    assert [exchange.status for exchange in world.recorded] == [200, 200]
    client.eof()
    world.assert_at_rest()
    assert len(world.live.warm) == 0


def test_a_body_behind_a_body_is_read_after_it_cooled_down(world: World) -> None:
    """The reader of the first is given up with the rest."""
    client = world.client()
    post = b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    _ = client >> post
    server = world.accept() >> OK
    assert client.connection.cool_down()
    _ = client >> post
    _ = server >> OK
    assert [exchange.bytes_received for exchange in world.recorded] == [2, 2]
    assert [exchange.status for exchange in world.recorded] == [200, 200]


def test_what_was_begun_is_not_given_up(world: World) -> None:
    """A part of a head is held."""
    client = world.client()
    client.get()
    _ = world.accept() >> OK
    _ = client >> b"GET / HT"
    assert not client.connection.cool_down()

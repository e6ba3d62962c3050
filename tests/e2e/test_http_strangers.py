# SPDX-License-Identifier: Apache-2.0
"""Whoever reaches the daemon's port, and is nobody to it: requests whose end can be read in two ways, and more connections than there is
room for."""
import socket
import ssl

import pytest
from test_node import node   # noqa: F401, pylint: disable=unused-import

HIDDEN = b"GET /v1/hidden HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = "'Transfer-Encoding' is not understood here"
LENGTH = "the header 'Content-Length' has to be there once, and to be a number"


@pytest.fixture
def port(node):     # noqa: F811
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        number = s.getsockname()[1]
    node.kill()
    node.start("--listen", f"https://127.0.0.1:{number}")
    return number


def talk(port, data):
    """All that is answered until the connection ends."""
    told, context = b"", ssl._create_unverified_context()   # pylint: disable=protected-access
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=60)) as s:
        s.sendall(data)
        while part := s.recv(65536):
            told += part
    return told.decode()


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("headers, body, why", [
    ("Transfer-Encoding: chunked", b"0\r\n\r\n", CHUNKED), ("transfer-encoding: CHUNKED", b"0\r\n\r\n", CHUNKED),
    ("Content-Length: 2\r\nTransfer-Encoding: chunked", b"{}", CHUNKED), ("Transfer-Encoding: identity\r\nContent-Length: 2", b"{}", CHUNKED),
    ("Content-Length: 2\r\nContent-Length: 40", b"{}", LENGTH), ("Content-Length: 2\r\nContent-Length: 2", b"{}", LENGTH),
    ("Content-Length: +2", b"{}", LENGTH), ("Content-Length: 2x", b"{}", LENGTH), ("Content-Length: 2, 40", b"{}", LENGTH),
    ("Content-Length: 0x2", b"{}", LENGTH), ("Content-Length: 99999999999999999999999", b"{}", LENGTH)])
def test_a_request_of_two_ends_is_refused_and_the_last(port, method, headers, body, why):
    told = talk(port, f"{method} /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}\r\n\r\n".encode() + body + HIDDEN)
    assert told.count("HTTP/1.") == 1 and told.startswith("HTTP/1.1 400 ") and "connection: close" in told.lower(), told
    assert why in told and "hidden" not in told, told


def test_connections_of_strangers_leave_room_at_the_unix_socket(node, port):     # noqa: F811
    for _ in range(1200):       # who goes makes room again
        socket.create_connection(("127.0.0.1", port)).close()
    many = [socket.create_connection(("127.0.0.1", port)) for _ in range(1100)]
    assert node.ask("GET", "/v1/node", status=200)
    for s in many:
        s.close()
    assert "needed" in talk(port, b"GET /v1/setup HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

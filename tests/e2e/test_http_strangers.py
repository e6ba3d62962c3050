# SPDX-License-Identifier: Apache-2.0
"""Whoever reaches the daemon's port, and is nobody to it: requests whose end can be read in two ways, and more connections than there is
room for."""
import json
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


def talk_inside(path, data):
    """The same by the Unix socket."""
    told = b""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(path)
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


@pytest.mark.parametrize("headers", ["", "Host:", "Host: ", "Host: x\r\nHost: x", "Host: x\r\nHost: y", "Host: x\r\nHost:", "Host:\r\nHost: x", "Host: a b",
                                     "Host: http://x/", "Host: user@x", "Host: x:y", "Host: x:70000", "Host: [::1", "Host: \xe4", "Host: " + "x" * 300])
def test_a_request_names_one_host(node, port, headers):     # noqa: F811
    """RFC 9112 3.2: none, several, or what is none."""
    post = f"POST /v1/login HTTP/1.1\r\n{headers}\r\nContent-Length: 2\r\n\r\n{{}}" if headers else "POST /v1/login HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    for ask in (lambda data: talk(port, data), lambda data: talk_inside(node.socket, data)):
        for request in (post, post.replace("POST /v1/login", "GET /v1/node"), post.replace("POST /v1/login", "GET /")):
            told = ask(request.encode("latin-1") + HIDDEN)
            assert told.count("HTTP/1.") == 1 and told.startswith("HTTP/1.1 400 ") and "connection: close" in told.lower(), told
            assert "'Host'" in told and "hidden" not in told, told


@pytest.mark.parametrize("line, headers, status, code", [
    ("GET /v1/setup", "Cookie: " + "x" * 20_000, 431, "headers_too_long"), ("GET /v1/setup", "Authorization: Bearer " + "x" * 300_000, 431, "headers_too_long"),
    ("GET /v1/setup", f"Cookie: {'x' * 6000}\r\nReferer: {'x' * 6000}\r\nIdempotency-Key: {'x' * 6000}", 431, "headers_too_long"),
    ("POST /v1/login", "Content-Length: 2\r\nCookie: " + "x" * 20_000, 431, "headers_too_long"), ("GET /", "Cookie: " + "x" * 20_000, 431, "headers_too_long"),
    ("GET /v1/" + "x" * 15_000, "Accept: */*", 414, "target_too_long"), ("GET /v1/" + "x" * 300_000, "Accept: */*", 414, "target_too_long"),
    ("GET /v1/instances?filter=" + "x" * 300_000, "Accept: */*", 414, "target_too_long"), ("GET /v1/instances?" + "fields=" + "x," * 8000, "Accept: */*", 414, "target_too_long"),
    ("DELETE /v1/instances/" + "x" * 300_000, "Accept: */*", 414, "target_too_long"), ("PATCH /v1/instances/" + "x" * 15_000, "Content-Length: 2", 414, "target_too_long"),
    ("GET /" + "x" * 15_000, "Accept: */*", 414, "target_too_long")], ids=lambda v: str(v)[:30] + str(len(str(v))))
def test_what_is_too_long_is_told_before_the_connection_ends(node, port, line, headers, status, code):     # noqa: F811
    for ask in (lambda data: talk(port, data), lambda data: talk_inside(node.socket, data)):
        told = ask(f"{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n{{}}".encode() + HIDDEN)
        head, _, body = told.partition("\r\n\r\n")
        assert told.count("HTTP/1.") == 1 and head.split()[1] == str(status) and "connection: close" in head.lower(), told
        error = json.loads(body)["error"]
        assert error["code"] == code and "too long" in error["message"] and "hidden" not in told, told


def test_what_is_nearly_too_long_is_not(node, port):     # noqa: F811
    for ask in (lambda data: talk(port, data), lambda data: talk_inside(node.socket, data)):
        get = lambda path, more: ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\nConnection: close\r\n\r\n".encode())  # pylint: disable=cell-var-from-loop
        assert get("/v1/setup", "Cookie: " + "x" * 15_000).startswith("HTTP/1.1 200 ")
        assert get("/v1/" + "x" * 8000, "Accept: */*").startswith("HTTP/1.1 404 ")
        # What nobody knows is not looked at.
        assert get("/v1/setup", "X-Strange: " + "x" * 30_000).startswith("HTTP/1.1 200 ")
        try:
            assert get("/v1/setup", "X-Strange: " + "x" * 300_000) == ""
        except OSError:
            pass
    node.ask("GET", "/v1/node")


def test_hosts_that_are_good(node, port):     # noqa: F811
    for ask in (lambda data: talk(port, data), lambda data: talk_inside(node.socket, data)):
        for host in ("localhost", "127.0.0.1:8443", "[::1]:8443", "node.example.org.", "X-1"):
            told = ask(f"GET /v1/setup HTTP/1.1\r\nhOST:  {host} \r\nConnection: close\r\n\r\n".encode())
            assert told.startswith("HTTP/1.1 200 "), told
        # Before there were hosts.
        assert " 200 " in ask(b"GET /v1/setup HTTP/1.0\r\n\r\n").splitlines()[0]
        assert " 400 " in ask(b"GET /v1/setup HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n").splitlines()[0]


def test_connections_of_strangers_leave_room_at_the_unix_socket(node, port):     # noqa: F811
    for _ in range(1200):       # who goes makes room again
        socket.create_connection(("127.0.0.1", port)).close()
    many = [socket.create_connection(("127.0.0.1", port)) for _ in range(1100)]
    assert node.ask("GET", "/v1/node", status=200)
    for s in many:
        s.close()
    assert "needed" in talk(port, b"GET /v1/setup HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

# SPDX-License-Identifier: Apache-2.0
"""Programs of the host and of a guest speak over the virtio socket device."""
import os
import socket
import subprocess
import threading

import pytest
import vivguest
from test_saved_state import ctl, wait_for
from vivguest import Guest

HERE = os.path.dirname(os.path.abspath(__file__))
ECHO = r"""
for m in /extra/*.ko; do insmod $m; done
vsock cid
vsock echo 1000 &
while read line; do eval "$line"; done
"""


@pytest.fixture(scope="module")
def initrd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vsock")
    subprocess.run(["cc", "-O2", "-static", "-o", folder / "vsock", os.path.join(HERE, "programs/vsock.c")], check=True)
    files = {f"/extra/{i:02}{os.path.basename(m)}": m
             for i, m in enumerate(vivguest.modules("bookworm", "vmw_vsock_virtio_transport"))}
    return vivguest.initrd_with(vivguest.initrd("bookworm", ECHO, "vsock"), str(folder / "initrd"),
                                files | {"/bin/vsock": str(folder / "vsock")})


def start(bookworm, initrd, tmp_path):
    guest = Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--initrd", initrd, "--cmdline", "console=ttyS0 quiet", "--memory",
                  "256M", "--engine", "bt", "--console", "stdio", "--vsock", tmp_path / "v", "--control", tmp_path / "s")
    guest.expect("cid 3", 240)
    guest.expect("listening", 60)
    return guest


def ask(path, line, answer="OK"):
    """A connection on which LINE was said and answered."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(str(path))
    s.sendall(line.encode() + b"\n")
    if answer:
        hear(s, answer)
    return s


def hear(s, answer):
    told = b""
    while not told.endswith(b"\n"):
        c = s.recv(1)
        assert c, f"closed after {told}"
        told += c
    assert told.decode().startswith(answer), told
    return told.decode().split()[1]


def echo(s, data):
    """Send DATA and the end; what comes back until the end."""
    def send():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    thread = threading.Thread(target=send)
    thread.start()
    back = b""
    while piece := s.recv(65536):
        back += piece
    thread.join()
    return back


def test_streams_go_both_ways(bookworm, initrd, tmp_path):
    at = tmp_path / "v"
    with start(bookworm, initrd, tmp_path) as guest:
        data = os.urandom(3000000)
        assert echo(ask(at, "CONNECT 1000"), data) == data
        # Many at a time, each with its own bytes.
        all_of_them = [ask(at, "CONNECT 1000") for _ in range(60)]
        for i, s in enumerate(all_of_them):
            s.sendall(f"I am {i}\n".encode())
        for i, s in enumerate(all_of_them):
            assert s.makefile().readline() == f"I am {i}\n"
        for s in all_of_them:
            s.close()
        # Nobody listens there; nonsense; too long a line.
        assert ask(at, "CONNECT 1001", None).recv(100) == b""
        assert b"ERR" in ask(at, "HELLO", None).recv(100) and b"ERR" in ask(at, "CONNECT x", None).recv(100)
        assert b"ERR" in ask(at, "C" * 100, None).recv(100)
        # The guest connects: first nobody waits, then somebody does.
        guest.send("vsock say 77 hello\n")
        guest.expect("connect: Connection reset", 60)
        waits = ask(at, "LISTEN 77", None)
        while "heard" not in guest.text():
            guest.send("vsock say 77 hello\n")
            waits.settimeout(1)
            try:
                hear(waits, "CONNECTED")
            except TimeoutError:
                continue
            waits.settimeout(60)
            assert hear_line(waits) == "hello"
            waits.sendall(b"good day\n")
            guest.expect("heard good day", 60)
        ctl(str(tmp_path / "s"), "quit")


def hear_line(s):
    return s.makefile().readline().rstrip("\n")


def test_a_continued_guest_is_told_that_its_connections_have_gone(bookworm, initrd, tmp_path):
    at, sock, state = tmp_path / "v", str(tmp_path / "s"), tmp_path / "state"
    with start(bookworm, initrd, tmp_path) as guest:
        s = ask(at, "CONNECT 1000")
        s.sendall(b"there?")
        assert s.recv(6) == b"there?"
        ctl(sock, "save", state)
        s.sendall(b"still?")            # the machine that was saved goes on
        assert s.recv(6) == b"still?"
        assert ctl(sock, "info", "--json")["vsock"]["cid"] == 3
        ctl(sock, "quit")
        assert guest.wait(30) == 0
        assert s.recv(1) == b"" and not at.exists()
    with Guest("--restore", state, "--vsock-cid", "9", "--control", sock, "--engine", "bt") as again:
        wait_for(again, sock)
        again.expect("read: Connection reset by peer", 60)
        again.send("vsock cid\n")
        again.expect("cid 9", 60)
        assert echo(ask(at, "CONNECT 1000"), b"new") == b"new"
        # It goes to another process, connections are lost, the socket's name is not.
        s = ask(at, "CONNECT 1000")
        with Guest("--incoming", f"unix:{tmp_path}/m", "--vsock", tmp_path / "w", "--log-level", "info", "--console", "none",
                   "--control", tmp_path / "t") as other:
            while "waiting for a machine" not in other.stderr():
                pass
            ctl(sock, "migrate", f"unix:{tmp_path}/m")
            assert s.recv(1) == b""
            assert echo(ask(tmp_path / "w", "CONNECT 1000"), b"moved") == b"moved"
            # Another program takes it over, listener and all.
            ctl(str(tmp_path / "t"), "upgrade")
            assert other.wait(30) == 0
            assert echo(ask(tmp_path / "w", "CONNECT 1000"), b"upgraded") == b"upgraded"
            ctl(str(tmp_path / "t"), "quit")

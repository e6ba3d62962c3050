# SPDX-License-Identifier: Apache-2.0
"""Either side of a migration is killed at every step, over several connections, through TLS and before post-copy: afterwards the machine
runs at its source if that lives, and nowhere else."""
import os
import socket
import subprocess
import threading

import pytest
import vivguest
from test_migration import destination, ended, is_alive
from test_migration import seed, source  # noqa: F401 - fixtures
from test_migration_post import OWED, begin
from test_migration_tls import keys, place  # noqa: F401 - fixtures
from test_saved_state import ctl, wait_for
from wire import BUILT, END, JOIN, MACHINE, PAGES, PLAN, READY, STATE, Wire

STEPS = [("streams=3", k) for k in (PLAN, JOIN, MACHINE, BUILT, PAGES, END, STATE, READY)] + \
        [("postcopy=on", k) for k in (PLAN, JOIN, MACHINE, BUILT, OWED, END, STATE, READY)]


def expect(guest, sock, other, victim, done):
    """What has come of it when VICTIM was killed before COMMIT; or at it, when the disk's lock says who may run."""
    if victim == "source":          # who kills the process that runs the machine kills the machine
        assert done.returncode == 3 and ended(other) == 1
    else:
        assert done.returncode == 1 and is_alive(guest, sock)


def migrate(sock, *args):
    return subprocess.run([vivguest.VMM, "ctl", sock, "migrate", *map(str, args)], stderr=subprocess.DEVNULL, timeout=90, check=False)


@pytest.mark.parametrize("victim,option,kind", [("destination", *s) for s in STEPS] +
                         # Before it has learnt what machine comes, a destination waits on for another source.
                         [("source", *s) for s in STEPS if s[1] not in (PLAN, JOIN, MACHINE)])
def test_killing_either_side_of_several_connections(source, tmp_path, option, kind, victim):  # noqa: F811
    guest, sock = source
    other, _, at = destination(tmp_path)

    def kill(record):
        (guest if victim == "source" else other).kill()
        return record

    wire = Wire(tmp_path, at.removeprefix("unix:"), kind, kill)
    with other:
        if kind == OWED:        # it runs there while most of its memory is still here
            done = begin(sock, f"unix:{wire.path}")
            done.communicate(timeout=90)
        else:
            done = migrate(sock, f"unix:{wire.path}", option)
        expect(guest, sock, other, victim, done)


class Bytes(threading.Thread):
    """Between the two, who speak TLS: ACTION is called once when the source has sent so many bytes."""

    def __init__(self, target, n, action):
        super().__init__(daemon=True)
        self.target, self.left, self.action = target, n, action
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp:127.0.0.1:{self.listener.getsockname()[1]}"
        self.lock = threading.Lock()
        self.start()

    def run(self):
        while True:
            a, _ = self.listener.accept()
            b = socket.create_connection(self.target)
            threading.Thread(target=self.pump, args=(a, b, True), daemon=True).start()
            threading.Thread(target=self.pump, args=(b, a, False), daemon=True).start()

    def pump(self, come, go, counts):
        try:
            while data := come.recv(1 << 16):
                with self.lock:
                    due = counts and 0 < self.left <= len(data)
                    self.left -= len(data) if counts else 0
                if due:
                    self.action()
                go.sendall(data)
        except OSError:
            pass
        for s in (come, go):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@pytest.mark.parametrize("n", [64 << 10, 4 << 20, 32 << 20])
@pytest.mark.parametrize("victim", ["source", "destination"])
def test_killing_either_side_through_tls(source, keys, bookworm, tmp_path, n, victim):  # noqa: F811
    guest, sock = source
    other, _, at = destination(tmp_path, "--incoming-tls", keys["b"], *place(bookworm, tmp_path), address="tcp:127.0.0.1:0")
    wire = Bytes(("127.0.0.1", int(at.rsplit(":", 1)[1])), n, lambda: (guest if victim == "source" else other).kill())
    with other:
        expect(guest, sock, other, victim, migrate(sock, wire.address, f"tls={keys['a']}", "streams=3", "postcopy=on"))


def test_a_machine_of_a_baseline_wanders_between_engines_and_stays_one(bookworm, tmp_path):
    """What its processors announce goes along: also to an engine that could do more, and back."""
    sock = str(tmp_path / "s")
    guest = vivguest.Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--cmdline", "console=ttyS0 rootwait root=/dev/vdz", "--memory",
                           "128M", "--console", "none", "--engine", "bt", "--cpu", "x86-64-v2", "--control", sock)
    try:
        wait_for(guest, sock)
        for i, engine in enumerate(("interp", "bt")):
            folder = tmp_path / str(i)
            folder.mkdir()
            other, other_sock, at = destination(folder, "--engine", engine)
            ctl(sock, "migrate", at)
            assert ended(guest) == 0 and is_alive(other, other_sock)
            assert ctl(other_sock, "info", "--json")["engine"] == engine
            guest, sock = other, other_sock
    finally:
        guest.kill()

# SPDX-License-Identifier: Apache-2.0
"""Requests that would change a machine wait in line while it is migrated, and are done where that has failed."""
import os
import subprocess
import time
from contextlib import contextmanager

import vivguest
from test_migration import destination, ended, is_alive, seed, source  # noqa: F401 - fixtures
from test_migration_disks import awaits, place, until
from test_migration_disks import source as with_disks  # noqa: F401 - fixture
from test_migration_disks import still  # noqa: F401 - fixture
from test_saved_state import ctl

SIZE = 1 << 20


@contextmanager
def asked(sock, *args):
    """A request that its client waits for."""
    with subprocess.Popen([vivguest.VMM, "ctl", sock, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        try:
            yield one
        finally:
            one.kill()


def waiting(sock):
    return ctl(sock, "waiting", "--json")["waiting"]


def in_line(sock, what):
    """These requests, or so many, wait."""
    end = time.monotonic() + 30
    while what not in (len(now := waiting(sock)), names := [w["request"] for w in now]):
        assert time.monotonic() < end, names
        time.sleep(0.02)


def size(sock):
    return ctl(sock, "info", "--json")["disks"][0]["size"]


def told(one):
    """Its status and what it said."""
    text = "".join(one.communicate(timeout=60))
    return one.returncode, text


def test_what_waited_is_done_in_its_order_when_a_migration_is_cancelled(source, tmp_path):  # noqa: F811
    guest, sock = source
    other, _, at = destination(tmp_path)
    state = tmp_path / "state"
    with other, asked(sock, "migrate", at, "bandwidth=1M") as moving:
        until(sock, "memory")
        with asked(sock, "disk-resize", "disk0", 2 * SIZE) as grows:
            in_line(sock, ["disk-resize"])
            with asked(sock, "set", "cpu-limit=1,disk.disk0.iops=700") as limits, asked(sock, "unplug", "disk0", "--force") as doubtful:
                in_line(sock, 3)
                ctl(sock, "waiting-cancel", [w["number"] for w in waiting(sock) if w["request"] == "unplug"][0])
                status, text = told(doubtful)
                assert status == 1 and "cancelled while it waited" in text
                with asked(sock, "save", state) as saves:
                    in_line(sock, 3)
                    assert waiting(sock)[2]["request"] == "save" and all(w["for"] == "a migration" for w in waiting(sock))
                    assert size(sock) == SIZE
                    ctl(sock, "migrate-cancel")
                    assert told(moving)[0] == 1
                    for one in (grows, limits, saves):
                        assert told(one)[0] == 0
        assert ended(other) == 1 and is_alive(guest, sock) and not waiting(sock)
        info = ctl(sock, "info", "--json")
        assert info["disks"][0]["size"] == 2 * SIZE == os.path.getsize(tmp_path / "d.img") and info["cpu_limit"] == "1"
        assert info["disks"][0]["limits"]["iops"] == 700 and state.stat().st_size > 1 << 20


def test_what_waited_is_not_done_where_the_machine_has_left_and_can_be_asked_there(source, tmp_path):  # noqa: F811
    guest, sock = source
    other, there, at = destination(tmp_path)
    with other, asked(sock, "migrate", at, "bandwidth=1M") as moving:
        until(sock, "memory")
        with asked(sock, "disk-resize", "disk0", 2 * SIZE) as grows:
            in_line(sock, ["disk-resize"])
            with asked(sock, "unplug", "disk0", "--force"):
                in_line(sock, ["disk-resize", "unplug"])
            in_line(sock, ["disk-resize"])          # the other one's client has gone
            ctl(sock, "migrate-set", "bandwidth=0")
            assert told(moving)[0] == 0
            status, text = told(grows)
            assert status == 1 and "runs at the other side" in text, text
        assert ended(guest) == 0 and is_alive(other, there) and size(there) == SIZE
        ctl(there, "disk-resize", "disk0", 2 * SIZE)
        assert size(there) == 2 * SIZE == os.path.getsize(tmp_path / "d.img")


def test_a_disk_grows_when_the_migration_that_was_copying_it_has_failed(with_disks, tmp_path):  # noqa: F811
    guest, sock, _ = with_disks
    folder = place(tmp_path)
    other, _, at = awaits(tmp_path, folder)
    before = size(sock)
    with other, asked(sock, "migrate", at, "bandwidth=1M", "--with-disks") as moving:
        until(sock, "disks")
        with asked(sock, "disk-resize", "a", 2 * before) as grows:
            in_line(sock, ["disk-resize"])
            assert size(sock) == before
            other.proc.kill()
            assert told(moving)[0] == 1 and told(grows)[0] == 0
        assert is_alive(guest, sock) and size(sock) == 2 * before
    # And goes with its new size.
    again = place(tmp_path, "again")
    other, there, at = awaits(tmp_path, again)
    with other:
        ctl(sock, "migrate", at, "--with-disks")
        assert ended(guest) == 0 and is_alive(other, there) and size(there) == 2 * before == os.path.getsize(again / "a")

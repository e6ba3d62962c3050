# SPDX-License-Identifier: Apache-2.0
"""Post-copy: a machine runs at the other side before all of its memory is there, connections and processes fail meanwhile, and
nothing pretends to run that does not."""
import json
import os
import signal
import socket
import struct
import subprocess
import time

import pytest
import vivguest
from test_migration import destination, ended, is_alive
from test_migration import seed, source  # noqa: F401 - fixtures
from test_migration_tls import keys, place  # noqa: F401
from test_saved_state import ctl
from wire import DONE, PAGES, Wire, flipped

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="userfaultfd for system calls wants root")
OWED, REQUEST, RECOVER, COMPLETE = 15, 16, 17, 18


def begin(sock, at, *options):
    """A migration that goes to post-copy with most of memory still at the source; who asks for it."""
    asking = subprocess.Popen([vivguest.VMM, "ctl", sock, "migrate", at, "postcopy=on", "postcopy_after=0", "bandwidth=1M", *options, "--json"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    reach(sock, "memory", asking)
    ctl(sock, "migrate-start-postcopy")
    return asking


def reach(sock, phase, asking=None, timeout=30):
    end = time.monotonic() + timeout
    while ctl(sock, "migration", "--json")["phase"] != phase:
        assert time.monotonic() < end and (not asking or asking.poll() is None), asking and asking.communicate()
        time.sleep(0.01)


def pages(path):
    with open(path, "rb") as f:
        off, = struct.unpack("<Q", f.read(64)[24:32])
        f.seek(off)
        return [f.read(4096) for _ in range((256 << 20) // 4096)]


def test_it_runs_there_while_most_of_its_memory_is_still_here(source, tmp_path):  # noqa: F811
    guest, sock = source
    other, other_sock, at = destination(tmp_path)
    with other, begin(sock, at) as asking:
        reach(sock, "post-copy", asking)
        assert is_alive(other, other_sock)
        there = ctl(other_sock, "info", "--json")["migration"]
        assert there["phase"] == "post-copy" and there["left"] > 1 << 20
        saving = subprocess.Popen([vivguest.VMM, "ctl", other_sock, "save", tmp_path / "x"])    # waits in line for all memory
        assert "runs at the other side" in ctl(sock, "resume", status=1)
        assert "handed over already" in ctl(sock, "migrate-cancel", status=1)
        ctl(sock, "migrate-set", "bandwidth=0")
        done = json.loads(asking.communicate(timeout=60)[0])["result"]
        assert ended(guest) == 0 and done["pause_ns"] < 10e9 and done["sent"] > 20 << 20
        reach(other_sock, "none")
        assert saving.wait(60) == 0 and (tmp_path / "x").stat().st_size > 20 << 20
        assert is_alive(other, other_sock)


def test_every_byte_of_memory_arrives(source, tmp_path):  # noqa: F811
    guest, sock = source
    ctl(sock, "pause")
    ctl(sock, "save", tmp_path / "before")
    other, other_sock, at = destination(tmp_path)
    with other, begin(sock, at, "streams=4", "packing=zstd") as asking:
        reach(sock, "post-copy", asking)
        ctl(sock, "migrate-set", "bandwidth=0")
        assert asking.wait(60) == 0 and ended(guest) == 0
        reach(other_sock, "none")
        assert ctl(other_sock, "info", "--json")["state"] == "paused"
        ctl(other_sock, "save", tmp_path / "after")
        changed = sum(a != b for a, b in zip(pages(tmp_path / "before"), pages(tmp_path / "after")))
        assert changed <= 4     # where the machine itself tells the guest the time
        ctl(other_sock, "resume")
        assert is_alive(other, other_sock)


@pytest.mark.parametrize("kind,what", [(PAGES, "cut"), (PAGES, "flip"), (REQUEST, "cut"), (REQUEST, "flip"), (COMPLETE, "cut")])
def test_a_connection_that_breaks_is_told_and_can_be_made_again(source, tmp_path, kind, what):  # noqa: F811
    guest, sock = source
    other, other_sock, at = destination(tmp_path)
    seen = []

    def act(record):
        if DONE not in seen:
            return record
        return flipped(record) if what == "flip" else None

    def action(record):
        seen.append(record[0])
        return act(record) if record[0] == kind else record

    wire = Wire(tmp_path, at.removeprefix("unix:"), None, action)
    with other, begin(sock, f"unix:{wire.path}") as asking:
        if kind == COMPLETE:
            reach(sock, "post-copy", asking)
            ctl(sock, "migrate-set", "bandwidth=0")
        said = asking.communicate(timeout=60)
        assert asking.returncode == 1 and "migrate-recover" in said[1]
        assert ctl(sock, "migration", "--json")["phase"] == "cut off"
        assert guest.proc.poll() is None and "runs at the other side" in ctl(sock, "resume", status=1)
        if kind == COMPLETE:    # the other side has all: it does not wait for anybody
            reach(other_sock, "none")
            assert is_alive(other, other_sock)
            ctl(sock, "quit")
            return
        ctl(sock, "migrate-set", "bandwidth=0")
        ctl(sock, "migrate-recover", at)
        assert ended(guest) == 0
        reach(other_sock, "none")
        assert is_alive(other, other_sock)


def test_a_stranger_does_not_take_the_place_of_the_source(source, tmp_path):  # noqa: F811
    guest, sock = source
    other, other_sock, at = destination(tmp_path)
    seen = []

    def act(record):
        seen.append(record[0])
        return None if record[0] == PAGES and DONE in seen else record

    wire = Wire(tmp_path, at.removeprefix("unix:"), None, act)
    with other, begin(sock, f"unix:{wire.path}") as asking:
        assert asking.wait(60) == 1
        (tmp_path / "evil").mkdir()
        evil = Wire(tmp_path / "evil", at.removeprefix("unix:"), RECOVER, flipped)
        assert ctl(sock, "migrate-recover", f"unix:{evil.path}", status=1)
        assert ctl(sock, "migration", "--json")["phase"] == "cut off"
        ctl(sock, "migrate-set", "bandwidth=0")
        ctl(sock, "migrate-recover", at)
        assert ended(guest) == 0 and is_alive(other, other_sock)


def test_it_is_cut_off_and_goes_on_through_tls(source, keys, bookworm, tmp_path):  # noqa: F811
    guest, sock = source
    tls = [f"tls={keys['a']}", "tls_name=b.example"]
    other, other_sock, at = destination(tmp_path, "--incoming-tls", keys["b"], *place(bookworm, tmp_path))
    with other, begin(sock, at, *tls) as asking:
        reach(sock, "post-copy", asking)
        for pid in descendants(asking.pid):
            os.kill(pid, signal.SIGKILL)        # who speaks TLS for the source
        assert asking.wait(60) == 1 and ctl(sock, "migration", "--json")["phase"] == "cut off"
        ctl(sock, "migrate-set", "bandwidth=0")
        ctl(sock, "migrate-recover", at, *tls)
        assert ended(guest) == 0 and is_alive(other, other_sock)


def descendants(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(child) for child in f.read().split()]


def test_the_death_of_the_destination_is_told_and_nothing_runs(source, tmp_path):  # noqa: F811
    guest, sock = source
    other, _, at = destination(tmp_path)
    with other, begin(sock, at) as asking:
        reach(sock, "post-copy", asking)
        other.kill()
        assert asking.wait(60) == 1
        assert ctl(sock, "info", "--json")["state"] == "paused" and ctl(sock, "migration", "--json")["phase"] == "cut off"
        assert "runs at the other side" in ctl(sock, "resume", status=1)
        ctl(sock, "quit")
        assert ended(guest) == 0


def test_the_death_of_the_source_is_told_and_the_rest_can_be_ended(source, tmp_path):  # noqa: F811
    guest, sock = source
    other, _, at = destination(tmp_path)
    with other, begin(sock, at) as asking:
        reach(sock, "post-copy", asking)
        guest.kill()
        end = time.monotonic() + 30
        while "the machine is lost" not in other.stderr():
            assert time.monotonic() < end
            time.sleep(0.02)
        other.proc.send_signal(signal.SIGTERM)
        assert ended(other) == 1 and "ends without all of its memory" in other.stderr()


def test_what_breaks_before_the_commitment_leaves_it_at_its_source(source, tmp_path):  # noqa: F811
    guest, sock = source
    other, _, at = destination(tmp_path)
    wire = Wire(tmp_path, at.removeprefix("unix:"), OWED, flipped)
    with other, begin(sock, f"unix:{wire.path}") as asking:
        assert asking.wait(60) == 1 and is_alive(guest, sock) and ended(other) == 1
    other, other_sock, at = destination(tmp_path)
    with other:
        ctl(sock, "migrate", at, "postcopy=on")
        assert ended(guest) == 0 and is_alive(other, other_sock)


def test_it_must_have_been_allowed_for(source, tmp_path):  # noqa: F811
    guest, sock = source
    assert "not being migrated" in ctl(sock, "migrate-start-postcopy", status=1)
    other, _, at = destination(tmp_path)
    with other, subprocess.Popen([vivguest.VMM, "ctl", sock, "migrate", at, "bandwidth=1M"], stderr=subprocess.DEVNULL) as asking:
        reach(sock, "memory", asking)
        assert "without 'postcopy=on'" in ctl(sock, "migrate-start-postcopy", status=1)
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(tmp_path / "nobody"))
            s.listen(2)
            assert "cut off" in ctl(sock, "migrate-recover", f"unix:{tmp_path / 'nobody'}", status=1)
        ctl(sock, "migrate-cancel")
        assert asking.wait(20) == 1 and is_alive(guest, sock)

# SPDX-License-Identifier: Apache-2.0
"""Running machines go from one viv-vmm to another, and connections, disks and processes fail on the way: afterwards
exactly one of the two runs."""
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time

import pytest
import vivguest
from test_saved_state import WATCH, ctl, debian_options, wait_for
from vivguest import Guest
from wire import BUILT, COMMIT, DONE, END, HELLO, JOIN, MACHINE, PAGES, PLAN, READY, STATE, Wire, flipped



@pytest.fixture(scope="module")
def seed(bookworm, tmp_path_factory):
    """A kernel that waits for its root, saved, with its disk: machines that are there in milliseconds."""
    folder = tmp_path_factory.mktemp("seed")
    disk = folder / "d.img"
    disk.write_bytes(b"\0" * (1 << 20))
    with Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--cmdline", "console=ttyS0 rootwait root=/dev/vdz",
               "--memory", "256M", "--disk", f"path={disk}", "--console", "none", "--engine", "bt",
               "--control", folder / "s") as guest:
        wait_for(guest, str(folder / "s"))
        time.sleep(3)
        ctl(str(folder / "s"), "save", folder / "state", "--stop")
    return folder


@pytest.fixture
def source(seed, tmp_path):
    """A running machine with a disk of its own; (guest, control socket)."""
    disk, sock = tmp_path / "d.img", str(tmp_path / "s")
    shutil.copy(seed / "d.img", disk)
    with Guest("--restore", seed / "state", "--changed-disks", "--engine", "bt", "--disk", f"path={disk}", "--console", "none",
               "--control", sock) as guest:
        wait_for(guest, sock)
        yield guest, sock


def destination(tmp_path, *options, address=None):
    """A viv-vmm that waits; (guest, control socket, where)."""
    at = address or f"unix:{tmp_path / 'm'}"
    sock = str(tmp_path / "t")
    guest = Guest("--control", sock, "--log-level", "info", "--incoming", at, *options)
    end = time.monotonic() + 30
    while "waiting for a machine" not in guest.stderr():
        assert time.monotonic() < end and guest.proc.poll() is None, guest.stderr()
        time.sleep(0.01)
    port = re.search(r"TCP port (\d+)", guest.stderr())
    return guest, sock, f"tcp:127.0.0.1:{port.group(1)}" if port else at


def runs(guest, sock):
    """Does the machine of this process run? Interrupts of its clock are what tells."""
    if guest.proc.poll() is not None:
        return False
    info = ctl(sock, "info", "--json")
    return info["state"] == "running"


def is_alive(guest, sock):
    """It runs, and its processor does."""
    then = ctl(sock, "stats", "--json")["cpus"][0]["interrupts"]
    end = time.monotonic() + 20
    while ctl(sock, "stats", "--json")["cpus"][0]["interrupts"] == then:
        assert time.monotonic() < end, guest.stderr()
        time.sleep(0.02)
    return runs(guest, sock)


def ended(guest, timeout=20):
    try:
        return guest.proc.wait(timeout)
    except subprocess.TimeoutExpired:
        return None


@pytest.mark.parametrize("there,packing", [("bt", "none"), ("interp", "zstd"), ("bt", "lz4")])
def test_a_machine_goes_on_at_the_other_side_and_comes_back(source, bookworm, tmp_path, there, packing):
    guest, sock = source
    other, other_sock, at = destination(tmp_path, "--engine", there)
    with other:
        done = ctl(sock, "migrate", at, f"packing={packing}", "--json")
        assert ended(guest) == 0 and done["pages"] > 1000 and done["pause_ns"] < 10e9
        assert sum(ns for part, ns in done["pause"].items() if part.endswith("_ns")) == done["pause_ns"]
        assert is_alive(other, other_sock)
        thief = subprocess.run([vivguest.VMM, "--kernel", os.path.join(bookworm, "vmlinuz"), "--check", "--disk",
                                f"path={tmp_path / 'd.img'}"], capture_output=True, text=True, timeout=20, check=False)
        assert "in use" in thief.stderr
        (tmp_path / "back").mkdir()
        third, third_sock, at = destination(tmp_path / "back", "--engine", "bt")
        with third:
            ctl(other_sock, "migrate", at)
            assert ended(other) == 0 and is_alive(third, third_sock)
            ctl(third_sock, "quit")


@pytest.mark.parametrize("streams,packing", [(2, "none"), (8, "lz4")])
def test_memory_goes_over_several_connections(source, tmp_path, streams, packing):
    guest, sock = source
    other, other_sock, at = destination(tmp_path)
    with other:
        done = ctl(sock, "migrate", at, f"streams={streams}", f"packing={packing}", "--json")
        assert ended(guest) == 0 and done["pages"] > 1000 and is_alive(other, other_sock)


def test_a_stranger_does_not_take_the_place_of_a_connection(source, tmp_path):
    guest, sock = source
    other, other_sock, at = destination(tmp_path)
    strangers = []

    def knock(record):
        s = socket.socket(socket.AF_UNIX)
        s.connect(at.removeprefix("unix:"))
        s.sendall(record[:8] + struct.pack("<I", 0) + record[12:])     # as it would be sent, but damaged
        strangers.append(s)
        return record

    wire = Wire(tmp_path, at.removeprefix("unix:"), JOIN, knock)
    with other:
        ctl(sock, "migrate", f"unix:{wire.path}", "streams=3")
        assert ended(guest) == 0 and is_alive(other, other_sock) and strangers


@pytest.mark.parametrize("streams", [0, 9])
def test_there_are_so_many_connections_and_no_more(source, streams):
    assert "streams: 1 to 8" in ctl(source[1], "migrate", "unix:/nowhere", f"streams={streams}", status=2)


def test_a_paused_machine_stays_paused(source, tmp_path):
    guest, sock = source
    ctl(sock, "pause")
    other, other_sock, at = destination(tmp_path)
    with other:
        ctl(sock, "migrate", at)
        assert ended(guest) == 0 and ctl(other_sock, "info", "--json")["state"] == "paused"
        ctl(other_sock, "resume")
        assert is_alive(other, other_sock)


def test_over_tcp_nobody_says_what_is_what_on_this_host(source, tmp_path, bookworm):
    guest, sock = source
    kernel = os.path.join(bookworm, "vmlinuz")
    other, _, at = destination(tmp_path, "--kernel", kernel, "--console", "none", address="tcp:127.0.0.1:0")
    with other:
        assert "the machine that comes has disks" in ctl(sock, "migrate", at, status=1)
        assert ended(other) == 1 and is_alive(guest, sock)
    other, other_sock, at = destination(tmp_path, "--kernel", kernel, "--console", "none", "--disk", f"path={tmp_path / 'd.img'}",
                                        address="tcp:127.0.0.1:0")
    with other:
        with socket.create_connection(("127.0.0.1", int(at.rsplit(":", 1)[1]))) as noise:
            noise.sendall(b"GET / HTTP/1.1\r\n\r\n" * 4)
        ctl(sock, "migrate", at)
        assert ended(guest) == 0 and is_alive(other, other_sock)
        assert "is turned away" in other.stderr()


@pytest.mark.parametrize("options,says", [
    (["--memory", "128M"], "memory: the saved machine has 256 MiB"), (["--cpus", "2"], "cpus: the saved machine has 1"),
    (["--disk", "path=/nonexistent"], "cannot open"), (["--net", "none"], "virtio devices"),
])
def test_what_the_destination_cannot_do_it_refuses_and_the_source_goes_on(source, tmp_path, options, says):
    guest, sock = source
    other, _, at = destination(tmp_path, *options)
    with other:
        assert says in ctl(sock, "migrate", at, status=1)
        assert ended(other) == 1 and is_alive(guest, sock)


def test_a_cancelled_migration_leaves_the_machine_where_it_is(source, tmp_path):
    guest, sock = source
    other, _, at = destination(tmp_path)
    with other, subprocess.Popen([vivguest.VMM, "ctl", sock, "migrate", at, "bandwidth=1M"], stderr=subprocess.PIPE) as asking:
        end = time.monotonic() + 20
        while ctl(sock, "migration", "--json")["phase"] != "memory":
            assert time.monotonic() < end
        ctl(sock, "migrate-cancel")
        assert b"was cancelled" in asking.communicate(timeout=20)[1]
        assert ended(other) == 1 and is_alive(guest, sock)
        assert "is not being migrated" in ctl(sock, "migrate-cancel", status=1)


def test_limits_may_be_changed_on_the_way_and_progress_is_told(source, tmp_path):
    guest, sock = source
    other, other_sock, at = destination(tmp_path)
    with other, subprocess.Popen([vivguest.VMM, "ctl", sock, "events", "--json"], stdout=subprocess.PIPE, text=True) as told, \
            subprocess.Popen([vivguest.VMM, "ctl", sock, "migrate", at, "bandwidth=1M", "streams=2", "--json"],
                             stdout=subprocess.PIPE) as asking:
        end = time.monotonic() + 20
        while ctl(sock, "migration", "--json")["phase"] != "memory":
            assert time.monotonic() < end
        assert "1 to 99" in ctl(sock, "migrate-set", "throttle_max=100", status=1)
        ctl(sock, "migrate-set", "pause_ms=300", "throttle_max=40")
        now = ctl(sock, "info", "--json")["migration"]
        assert now["phase"] == "memory" and now["bandwidth"] == 1 << 20 and now["pause_ms"] == 300 and now["streams"] == 2
        ctl(sock, "migrate-set", "bandwidth=0")
        done = json.loads(asking.communicate(timeout=60)[0])["result"]
        assert done["sent"] > 4 << 20 and ended(guest) == 0 and is_alive(other, other_sock)
        phases = [e["phase"] for e in map(json.loads, told.communicate(timeout=20)[0].splitlines()) if e.get("event") == "migration"]
        assert phases[0] == "memory" and phases[-1] == "handover"
        assert "not being migrated" in ctl(other_sock, "migrate-set", "bandwidth=1M", status=1)


@pytest.mark.parametrize("kind", [HELLO, MACHINE, BUILT, PAGES, STATE, READY])
@pytest.mark.parametrize("what", ["cut", "flip", "half"])
def test_what_breaks_before_the_commitment_leaves_the_machine_at_its_source(source, tmp_path, kind, what):
    guest, sock = source
    other, _, at = destination(tmp_path)
    actions = {"cut": lambda r: None, "flip": flipped, "half": lambda r: r[:len(r) // 2]}
    wire = Wire(tmp_path, at.removeprefix("unix:"), kind, actions[what])
    with other:
        ask = subprocess.Popen([vivguest.VMM, "ctl", sock, "migrate", f"unix:{wire.path}"], stderr=subprocess.DEVNULL)
        if what == "half":      # the record never ends: whoever waits for it may be told
            time.sleep(0.5)
            other.kill()
        assert ask.wait(90) == 1
        assert is_alive(guest, sock)
        if kind > MACHINE and what == "cut":
            assert ended(other) == 1
    # Nothing was lost: the same machine goes at the second try.
    other, other_sock, at = destination(tmp_path)
    with other:
        ctl(sock, "migrate", at)
        assert ended(guest) == 0 and is_alive(other, other_sock)


@pytest.mark.parametrize("kind,what", [(PLAN, "cut"), (PLAN, "flip"), (JOIN, "cut"), (JOIN, "flip"), (PAGES, "one-cut"),
                                       (PAGES, "one-flip"), (END, "cut"), (END, "flip")])
def test_what_breaks_one_of_several_connections_leaves_the_machine_at_its_source(source, tmp_path, kind, what):
    guest, sock = source
    other, _, at = destination(tmp_path)
    count = []

    def act(record):
        count.append(1)
        if what.startswith("one") and len(count) < 8:   # the others go on
            return record
        return flipped(record) if what.endswith("flip") else None

    wire = Wire(tmp_path, at.removeprefix("unix:"), kind, act)
    with other:
        assert ctl(sock, "migrate", f"unix:{wire.path}", "streams=3", status=1)
        assert is_alive(guest, sock)
        if kind in (PAGES, END):
            assert ended(other) == 1
    other, other_sock, at = destination(tmp_path)
    with other:
        ctl(sock, "migrate", at, "streams=3")
        assert ended(guest) == 0 and is_alive(other, other_sock)


@pytest.mark.parametrize("kind", [MACHINE, PAGES, STATE, READY])
@pytest.mark.parametrize("victim", ["source", "destination"])
def test_killing_either_side_before_the_commitment(source, tmp_path, kind, victim):
    guest, sock = source
    other, _, at = destination(tmp_path)

    def kill(record):
        (guest if victim == "source" else other).kill()
        return record

    wire = Wire(tmp_path, at.removeprefix("unix:"), kind, kill)
    with other:
        done = subprocess.run([vivguest.VMM, "ctl", sock, "migrate", f"unix:{wire.path}"], stderr=subprocess.DEVNULL, timeout=90,
                              check=False)
        if victim == "source":  # who kills the process that runs the machine kills the machine
            assert done.returncode == 3 and ended(other) == 1
        else:
            assert done.returncode == 1 and is_alive(guest, sock)


def test_without_confirmation_the_lock_of_the_disk_decides_for_the_destination(source, tmp_path):
    guest, sock = source
    other, other_sock, at = destination(tmp_path)
    wire = Wire(tmp_path, at.removeprefix("unix:"), DONE, lambda r: None)
    with other:
        ctl(sock, "migrate", f"unix:{wire.path}")
        assert ended(guest) == 0 and is_alive(other, other_sock)
        assert "it runs there" in guest.stderr()


def test_without_confirmation_the_lock_of_the_disk_decides_for_the_source(source, tmp_path):
    guest, sock = source
    other, _, at = destination(tmp_path)

    def kill(record):
        other.kill()

    wire = Wire(tmp_path, at.removeprefix("unix:"), COMMIT, kill)
    with other:
        assert ctl(sock, "migrate", f"unix:{wire.path}", status=1)
        assert is_alive(guest, sock)


def test_a_destination_that_cannot_have_the_disk_gives_the_machine_back(source, tmp_path):
    guest, sock = source
    other, _, at = destination(tmp_path)

    def steal(record):
        import fcntl
        held.append(open(tmp_path / "d.img", "r+b"))
        lock = struct.pack("hhqqixxxx", fcntl.F_WRLCK, 0, 0, 0, 0)
        fcntl.fcntl(held[0], fcntl.F_OFD_SETLK, lock)
        return record

    held = []
    wire = Wire(tmp_path, at.removeprefix("unix:"), COMMIT, steal)
    with other:
        asking = subprocess.Popen([vivguest.VMM, "ctl", sock, "migrate", f"unix:{wire.path}"], stderr=subprocess.PIPE)
        assert ended(other) == 1
        text = asking.communicate(timeout=60)[1].decode()
        # The thief is still there: the source does not run without its disk.
        assert "did not confirm" in text and ctl(sock, "info", "--json")["state"] == "paused"
        assert "runs elsewhere" in ctl(sock, "resume", status=1)
        held[0].close()
        ctl(sock, "resume")
        assert is_alive(guest, sock)


def test_a_machine_without_disks_that_nobody_confirms_waits_for_its_user(bookworm, tmp_path):
    sock = str(tmp_path / "s")
    with Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--memory", "128M", "--console", "none", "--engine", "bt",
               "--control", sock) as guest:
        wait_for(guest, sock)
        other, _, at = destination(tmp_path)
        with other:
            wire = Wire(tmp_path, at.removeprefix("unix:"), COMMIT, lambda r: None)
            assert "did not confirm" in ctl(sock, "migrate", f"unix:{wire.path}", status=1)
            assert ended(other) == 1
            assert ctl(sock, "info", "--json")["state"] == "paused"
            assert ctl(sock, "migration", "--json")["phase"] == "in doubt"
            ctl(sock, "resume")
            assert is_alive(guest, sock)


def test_debian_wanders_between_engines_under_load_and_its_disk_stays_whole(debian, disk, tmp_path):
    rounds = int(os.environ.get("VIV_MIGRATE_ROUNDS", "3"))
    sock = str(tmp_path / "s0")
    guest = Guest(*debian_options(debian, disk), "--engine", "bt", "--control", sock)
    told, engines, pauses = "", ["bt", "interp", "bt"], []
    try:
        guest.login(600)
        guest.command("cat > /root/watch <<'END'\n" + WATCH + "END\ntrue")
        guest.send("bash /root/watch &\n")
        guest.expect("round-1\r?\n", 120)
        for i in range(rounds):
            folder = tmp_path / str(i)
            folder.mkdir()
            other, other_sock, at = destination(folder, "--engine", engines[i % 3])
            done = ctl(sock, "migrate", at, "--json")
            assert guest.wait(30) == 0
            told += guest.text()
            guest.kill()
            guest, sock = other, other_sock
            pauses.append(done["pause_ns"] / 1e6)
            time.sleep(0.5)
        guest.send("touch /root/stop\n")
        guest.expect(r"watch ended after \d+", 300)
        told += guest.text()
        guest.send("poweroff\n")
        assert guest.wait(300) == 0
    finally:
        guest.kill()
    print("pauses, ms:", *(f"{p:.1f}" for p in pauses))
    assert "BAD-" not in told, told[-3000:]
    done = subprocess.run(["e2fsck", "-fn", disk], capture_output=True, text=True,
                          env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

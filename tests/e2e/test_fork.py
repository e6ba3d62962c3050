# SPDX-License-Identifier: Apache-2.0
"""A fork that fails, or whose program is interrupted or killed, at each of its steps: nothing half made is left."""
import array
import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
import vivguest
from test_agent import keep_reading
from test_saved_state import ctl, state_of, wait_for
from vivguest import Guest

ENV = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}


class Between:
    """Passes requests on to the machine, and does BEFORE(number, request) before each; what that returns is the answer instead."""

    def __init__(self, path, machine):
        self.machine, self.before, self.seen = machine, lambda number, request: None, []
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(16)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(conn,), daemon=True).start()

    @staticmethod
    def message(conn):
        data, fds, _, _ = socket.recv_fds(conn, 1 << 20, 16)
        while data and len(data) < 4 + struct.unpack("<I", data[:4])[0]:
            data += conn.recv(1 << 20)
        return data, fds

    def one(self, conn):
        with conn, contextlib.suppress(OSError):
            data, fds = self.message(conn)
            if not data:
                return
            name = data.split(b'"request":"')[1].split(b'"')[0].decode()
            self.seen.append(name)
            answer = self.before(len(self.seen), name)
            if answer is None:
                with socket.socket(socket.AF_UNIX) as machine:
                    machine.connect(self.machine)
                    machine.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
                    answer, _ = self.message(machine)
            for fd in fds:
                os.close(fd)
            if answer:
                conn.sendall(answer)


REFUSAL = b'{"error":{"code":"EIO","message":"not today"},"id":1}'
REFUSAL = struct.pack("<I", len(REFUSAL)) + REFUSAL


class Seed:
    """A machine with a raw and a qcow2 disk and one that nobody writes to, and a socket device."""

    def __init__(self, folder, bookworm):
        self.folder, self.sock, self.asked = str(folder), os.path.join(folder, "run", "m"), os.path.join(folder, "run", "s")
        os.makedirs(os.path.join(folder, "run"))
        os.makedirs(os.path.join(folder, "disks"))
        raw, self.disks = os.path.join(folder, "disks", "raw"), os.path.join(folder, "disks")
        for name in ("raw", "ro"):
            with open(os.path.join(self.disks, name), "wb") as f:
                f.truncate(1 << 20)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", os.path.join(self.disks, "q"), "4M"], check=True)
        self.guest = Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--cmdline", "console=ttyS0 rootwait root=/dev/vdz", "--memory", "128M",
                           "--disk", f"path={raw},format=raw,name=raw", "--disk", f"path={self.disks}/q,name=q",
                           "--disk", f"path={self.disks}/ro,format=raw,name=ro,readonly=on",
                           "--console", "stdio", "--engine", "bt", "--control", self.sock, "--name", "seed", "--vsock", f"{self.sock}.vsock")

    def __enter__(self):
        self.guest.__enter__()
        self.guest.expect("Waiting for root device", 60)
        self.between = Between(self.asked, self.sock)
        return self

    def __exit__(self, *why):
        self.between.sock.close()
        self.guest.__exit__(*why)

    def files(self):
        return {os.path.relpath(os.path.join(at, f), self.folder) for at, _, files in os.walk(self.folder) for f in files}

    def fork(self, *args):
        self.between.seen.clear()
        return subprocess.Popen([vivguest.VMM, "ctl", self.asked, "fork", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def images(self):
        return [d["path"] for d in ctl(self.sock, "info", "--json")["disks"]]

    def whole(self, files, images, timeout=30):
        """Nothing but FILES is there, the machine runs on IMAGES, and can be forked; else what is there."""
        end = time.monotonic() + timeout
        while self.files() != files or state_of(self.sock) != "running" or self.images() != images:
            assert time.monotonic() < end, (self.files() ^ files, state_of(self.sock), self.images(), self.between.seen)
            time.sleep(0.05)


@pytest.fixture
def seed(bookworm, tmp_path):
    with Seed(tmp_path, bookworm) as s:
        yield s
        if s.guest.proc.poll() is None:
            ctl(s.sock, "quit")


def steps(seed):
    """What a fork that goes well asks the machine for; it is undone."""
    files, images = seed.files(), seed.images()
    with seed.fork() as fork:
        out, err = fork.communicate(timeout=60)
    assert fork.returncode == 0, err
    told = list(seed.between.seen)
    ctl(out.split()[1], "quit")
    for disk in ("raw", "q"):
        ctl(seed.sock, "disk-commit", disk, "base=1")
    end = time.monotonic() + 60
    while ctl(seed.sock, "jobs", "--json")["jobs"]:
        assert time.monotonic() < end
    assert seed.images() == images
    for name in seed.files() - files:
        with contextlib.suppress(FileNotFoundError):    # a socket, whose janitor removes it
            os.unlink(os.path.join(seed.folder, name))
    assert told == ["info", "pause", "image-add", "image-add", "disk-snapshot", "save", "resume"]
    return told


@pytest.mark.parametrize("how", ["refused", "cut off", "killed", "interrupted"])
def test_a_fork_that_ends_at_any_step_leaves_nothing(seed, how):
    files, images = seed.files(), seed.images()
    for at in range(1, len(steps(seed)) + 1):
        fork = None
        started = threading.Event()

        def before(number, request, at=at):     # pylint: disable=unused-argument
            started.wait(30)
            if number == at and how in ("refused", "cut off"):
                return REFUSAL if how == "refused" else b""
            if number == at:
                fork.send_signal(signal.SIGKILL if how == "killed" else signal.SIGINT)
                fork.wait(30) if how == "killed" else time.sleep(0.05)
            return None
        seed.between.before = before
        with seed.fork() as fork:
            started.set()
            out, err = fork.communicate(timeout=60)
        if how == "refused":
            assert fork.returncode == 1 and "not today" in err and not out, (at, err)
        elif how == "cut off":
            assert fork.returncode == 1 and "without an answer" in err, (at, err)
        else:
            assert fork.returncode == (-signal.SIGKILL if how == "killed" else -signal.SIGINT), (at, err)
        if how != "killed" and not (how != "interrupted" and seed.between.seen[at - 1] == "resume"):
            assert seed.files() == files and seed.images() == images, at        # by the time that it ends
        if state_of(seed.sock) == "paused" and how in ("refused", "cut off") and at == 7:
            ctl(seed.sock, "resume")            # what was refused
        seed.whole(files, images)
    seed.between.before = lambda number, request: None
    steps(seed)


@pytest.mark.parametrize("at", range(2, 8))
def test_a_machine_that_is_killed_while_it_is_forked_leaves_its_disks(seed, at):
    def before(number, request):        # pylint: disable=unused-argument
        if number == at:
            os.kill(seed.guest.pid, signal.SIGKILL)
            seed.guest.proc.wait(30)

    def left():                         # its sockets are removed by its janitor
        return {f for f in seed.files() if not f.startswith(("run/m", "run/s"))}, [f for f in os.listdir(f"{seed.folder}/run") if f.startswith("s.")]
    files = left()
    seed.between.before = before
    with seed.fork() as fork:
        _, err = fork.communicate(timeout=60)
    assert fork.returncode == 1 and err and left() == files, (err, left(), files)


def test_copies_that_do_not_start_leave_nothing(seed, tmp_path):
    files, images = seed.files(), seed.images()

    def failed(*args, said):
        with seed.fork(*args) as fork:
            out, err = fork.communicate(timeout=120)
        assert fork.returncode == 1 and said in err and not out, err
        seed.whole(files, images, 2)
    failed("-n", "3", "--", "--console", "file:/nonexistent/console{}", said="/nonexistent/console1")
    failed("--", "--no-such-option", said="no-such-option")
    failed("--dir", "/nonexistent", said="/nonexistent")
    failed("-n", "2", "--", "--cpus", "200000", said="0 of 2 copies run")
    # One of several: the others run, and what they stand on stays.
    os.mkdir(tmp_path / "c1")
    with seed.fork("-n", "2", "--", "--console", f"file:{tmp_path}/c{{}}/out") as fork:
        out, err = fork.communicate(timeout=120)
    assert fork.returncode == 1 and "1 of 2 copies run: copy 2 has ended at once" in err and f"{tmp_path}/c2/out" in err, err
    assert [line.split()[1] for line in out.splitlines()] == [f"{seed.asked}-1"]
    new = {n.replace("disks/", "") for n in seed.files() - files if n.startswith("disks/")}
    assert new == {"raw.fork1", "q.fork1", "raw.seed-1", "q.seed-1"} and not os.path.exists(f"{seed.asked}-2.log")
    ctl(f"{seed.asked}-1", "quit")


def test_a_fork_without_room_leaves_nothing(seed, tmp_path):
    """On file systems of each size from none to enough."""
    small, images, ended = tmp_path / "small", seed.images(), []
    os.mkdir(small)
    files = seed.files()
    for kib in (4, 64, 256, 320, 512, 700, 960, 1300, 1500, 1800, 2200, 8000):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "small", small], check=True, env=ENV)
        try:
            with seed.fork("-n", "2", "--dir", str(small)) as fork:
                out, err = fork.communicate(timeout=120)
            ended.append(len(out.splitlines()))
            for line in out.splitlines():
                ctl(line.split()[1], "quit")
            if ended[-1]:
                assert (fork.returncode == 0) == (ended[-1] == 2), err
                break
            assert fork.returncode == 1 and err, (kib, fork.returncode, err)
            seed.whole(files, images, 2)
        finally:
            if ended[-1:] != [2] and ended[-1:] != [1]:
                subprocess.run(["umount", small], check=True, env=ENV)
    assert ended[-1] and len(ended) > 3, ended
    ctl(seed.sock, "quit")
    assert seed.guest.proc.wait(30) == 0
    subprocess.run(["umount", small], check=True, env=ENV)


def test_what_a_guest_wrote_while_copies_failed_is_not_lost(bookworm, tmp_path):
    initrd = vivguest.initrd("bookworm", "n=0; while :; do n=$((n + 1)); printf '%512d' $n | dd of=/dev/vda conv=fsync 2>/dev/null; echo wrote-$n; done",
                             "fork-writes")
    sock, disk = str(tmp_path / "s"), tmp_path / "d"
    disk.write_bytes(bytes(1 << 20))
    with Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--initrd", initrd, "--cmdline", "console=ttyS0 quiet", "--memory", "128M",
               "--disk", f"path={disk},format=raw,name=d", "--console", "stdio", "--engine", "bt", "--control", sock) as guest:
        guest.expect("wrote-3", 120)
        keep_reading(guest)
        for _ in range(3):
            before = guest.text().count("wrote-")
            with subprocess.Popen([vivguest.VMM, "ctl", sock, "fork", "-n", "8", "--", "--console", "file:/nonexistent/x"],
                                  stderr=subprocess.DEVNULL) as fork:
                assert fork.wait(120) == 1
            assert sorted(os.listdir(tmp_path)) == ["d", "s"] and ctl(sock, "info", "--json")["disks"][0]["path"] == str(disk)
            end = time.monotonic() + 60
            while guest.text().count("wrote-") < before + 20:
                assert time.monotonic() < end
                time.sleep(0.05)
            # What the guest was told to be written is there.
            told = guest.text().count("wrote-")
            assert int(disk.read_bytes()[:512]) >= told
        ctl(sock, "quit")


def test_two_forks_at_once_do_not_meet(seed):
    entered, go = threading.Event(), threading.Event()

    def before(number, request):        # pylint: disable=unused-argument
        if request == "save" and not go.is_set():
            entered.set()
            go.wait(60)
    seed.between.before = before
    with seed.fork() as first:
        assert entered.wait(60)
        with seed.fork() as second:
            out, err = second.communicate(timeout=60)
            assert second.returncode == 1 and "being forked" in err and not out
        assert state_of(seed.sock) == "paused"
        go.set()
        out, err = first.communicate(timeout=60)
    assert first.returncode == 0 and len(out.splitlines()) == 1, err
    ctl(out.split()[1], "quit")


def test_a_machine_that_was_paused_stays_so(seed):
    files, images = seed.files(), seed.images()
    ctl(seed.sock, "pause")
    with seed.fork("--", "--console", "file:/nonexistent/x") as fork:
        assert fork.wait(120) == 1
    assert seed.files() == files and seed.images() == images and state_of(seed.sock) == "paused"
    ctl(seed.sock, "resume")
    wait_for(seed.guest, seed.sock)

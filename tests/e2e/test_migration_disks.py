# SPDX-License-Identifier: Apache-2.0
"""Machines go to another viv-vmm with their disks. Whatever breaks on the way, one of the two runs, and its disks are whole."""
import hashlib
import os
import shutil
import struct
import subprocess
import time

import pytest
import vivguest
from test_disk_jobs import machine, writes  # noqa: F401 - fixture
from test_migration import destination, ended, is_alive, runs
from test_migration_tls import keys  # noqa: F401 - fixture
from test_saved_state import ctl, wait_for
from vivguest import Guest
from wire import BUILT, COMMIT, DONE, JOIN, MACHINE, PAGES, PLAN, READY, STATE, Wire, flipped

DISKS = 19
SIZE = 8 << 20
ENV = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}


def pattern(name):
    """What is on a disk: data, holes, data."""
    return (name.encode() * (1 << 20) + b"\0" * (1 << 20)) * (SIZE >> 21)


def make_disks(folder):
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(pattern(name))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", folder / "b", folder / "b.qcow2"], check=True)
    (folder / "b").unlink()


def disk_options(folder, *more):
    return ["--disk", f"path={folder}/a,name=a{more[0] if more else ''}", "--disk",
            f"path={folder}/b.qcow2,name=b,format=qcow2{more[0] if more else ''}", "--disk", f"path={folder}/c,name=c,readonly=on"]


@pytest.fixture(scope="module")
def still(bookworm, tmp_path_factory):
    """A kernel that waits for its root, saved; its disks are a (raw), b (qcow2) and c (read-only)."""
    folder = tmp_path_factory.mktemp("still")
    make_disks(folder)
    with Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--cmdline", "console=ttyS0 rootwait root=/dev/vdz",
               "--memory", "256M", *disk_options(folder), "--console", "none", "--engine", "bt", "--control", folder / "s") as guest:
        wait_for(guest, str(folder / "s"))
        time.sleep(3)
        ctl(str(folder / "s"), "save", folder / "state", "--stop")
    return folder


@pytest.fixture
def source(still, tmp_path):
    """That machine running; (guest, control socket, folder of its disks)."""
    folder, sock = tmp_path / "here", str(tmp_path / "s")
    folder.mkdir()
    make_disks(folder)
    with Guest("--restore", still / "state", "--changed-disks", "--engine", "bt", *disk_options(folder), "--console", "none",
               "--control", sock) as guest:
        wait_for(guest, sock)
        yield guest, sock, folder


def place(tmp_path, name="there"):
    """Where the disks go: the read-only one is there."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / "c").write_bytes(pattern("c"))
    return folder


def awaits(tmp_path, folder, *options, create=",create=on", address=None):
    return destination(tmp_path, *disk_options(folder, create), *options, address=address)


def contents(path, form):
    """The digest of what the disk shows, also while a machine that is idle has it locked."""
    copy, raw = f"{path}.copy", f"{path}.raw"
    shutil.copy(path, copy)
    if form == "qcow2":
        subprocess.run(["qemu-img", "check", "-q", "-f", form, copy], check=True)
    subprocess.run(["qemu-img", "convert", "-f", form, "-O", "raw", copy, raw], check=True)
    with open(raw, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    os.unlink(raw)
    os.unlink(copy)
    return digest


def are_whole(folder):
    """Both disks show what they showed, and no image is damaged."""
    return contents(folder / "a", "raw") == hashlib.sha256(pattern("a")).hexdigest() and \
        contents(folder / "b.qcow2", "qcow2") == hashlib.sha256(pattern("b")).hexdigest()


class DiskWire(Wire):
    """The same, for connections that speak NBD once they have said which they are: then ACTION gets what comes, if the type is "disk"."""

    def pump(self, source, sink):
        try:
            while True:
                head = self.take(source, 12)
                if head.startswith(b"NBDMAGIC"):
                    self.carry(source, sink, head)
                kind, length, _ = struct.unpack("<III", head)
                body = self.take(source, length)
                is_disk = kind == JOIN and struct.unpack("<I", body[16:20])[0] >= 32
                record = head + body
                if self.type == kind:
                    record = self.action(record)
                if record is None:
                    break
                sink.sendall(record)
                if is_disk:
                    self.carry(source, sink, b"")
        except (EOFError, OSError):
            pass
        for s in (source, sink):
            try:
                s.shutdown(2)
            except OSError:
                pass

    def carry(self, source, sink, data):
        sink.sendall(data)
        total = 0
        while True:
            data = source.recv(1 << 16)
            total += len(data)
            if self.type == "disk" and total > 1 << 20:
                data = self.action(data)
            if not data:
                raise EOFError
            sink.sendall(data)


@pytest.mark.parametrize("options,address", [([], None), (["streams=3", "packing=lz4"], "tcp:127.0.0.1:0"), (["postcopy=on", "postcopy_after=1"], None)])
def test_a_machine_goes_with_its_disks_and_comes_back(source, bookworm, tmp_path, options, address):
    guest, sock, here = source
    there = place(tmp_path)
    more = ["--kernel", os.path.join(bookworm, "vmlinuz"), "--console", "none"] if address else []
    other, other_sock, at = awaits(tmp_path, there, *more, address=address)
    with other:
        ctl(sock, "migrate", at, "--with-disks", *options)
        assert ended(guest) == 0 and is_alive(other, other_sock)
        assert are_whole(there) and are_whole(here)
        (tmp_path / "back").mkdir()
        third, third_sock, at = awaits(tmp_path / "back", here)      # on images that are there
        with third:
            ctl(other_sock, "migrate", at, "with-disks=b,a")
            assert ended(other) == 0 and is_alive(third, third_sock) and are_whole(here)


def test_disks_go_through_tls(source, keys, bookworm, tmp_path):  # noqa: F811
    guest, sock, _ = source
    there = place(tmp_path)
    other, other_sock, at = awaits(tmp_path, there, "--incoming-tls", keys["b"], "--kernel", os.path.join(bookworm, "vmlinuz"),
                                   "--console", "none", address="tcp:127.0.0.1:0")
    with other:
        ctl(sock, "migrate", at, "--with-disks", f"tls={keys['a']}", "streams=2")
        assert ended(guest) == 0 and is_alive(other, other_sock) and are_whole(there)


def test_an_encrypted_disk_goes_to_an_encrypted_one(source, tmp_path):
    guest, sock, _ = source
    there, key = place(tmp_path), tmp_path / "key"
    key.write_text("secret")
    other, other_sock, at = awaits(tmp_path, there, create=f",create=on,key-file={key}")
    with other:
        assert "is not made encrypted" in ctl(sock, "migrate", at, "--with-disks", status=1)
        assert ended(other) == 1 and is_alive(guest, sock)
    options = ["--disk", f"path={there}/a.luks,name=a,format=luks,create=on,key-file={key}", "--disk",
               f"path={there}/b2,name=b,format=qcow2,create=on,key-file={key}", "--disk", f"path={there}/c,name=c,readonly=on"]
    other, other_sock, at = destination(tmp_path, *options)
    with other:
        ctl(sock, "migrate", at, "--with-disks")
        assert ended(guest) == 0 and is_alive(other, other_sock)
        ctl(other_sock, "quit")
        other.wait(20)
    for name in ("a.luks", "b2"):
        raw = tmp_path / f"{name}.raw"
        subprocess.run([os.path.join(os.path.dirname(vivguest.VMM), "viv"), "disk", "convert", "--key-file", key, "--format", "raw",
                        there / name, raw], check=True, timeout=60)
        assert raw.read_bytes() == pattern(name[0])
        assert b"aaaaaaaa" not in (there / name).read_bytes()


def test_one_disk_goes_and_the_other_is_shared(source, tmp_path):
    guest, sock, here = source
    there = place(tmp_path)
    other, other_sock, at = destination(tmp_path, "--disk", f"path={there}/a,create=on", "--disk",
                                        f"path={here}/b.qcow2,name=b,format=qcow2", "--disk", f"path={here}/c,readonly=on")
    with other:
        ctl(sock, "migrate", at, "with-disks=a")
        assert ended(guest) == 0 and is_alive(other, other_sock)
        assert contents(there / "a", "raw") == hashlib.sha256(pattern("a")).hexdigest()


@pytest.mark.parametrize("change,says", [
    (("name=a", "name=x"), "is 'a' at the source, and 'x' here"), (("name=c,readonly=on", "name=c"), "read-only at the source"),
    (("/c,", "/a,"), "disk 0 already"), (("short", ""), "bytes at the source"), (("create=on", "create=off"), "cannot open"),
    (("there/a", "here/a"), "in use"),
])
def test_disks_that_do_not_fit_are_refused(source, tmp_path, change, says):
    guest, sock, here = source
    there = place(tmp_path)
    if change[0] == "short":
        (there / "c").write_bytes(b"\0" * 512)
    options = [o.replace(*change) for o in disk_options(there, ",create=on")]
    other, _, at = destination(tmp_path, *options)
    with other:
        text = ctl(sock, "migrate", at, "--with-disks", status=1)
        assert says in text, text
        assert ended(other) == 1 and is_alive(guest, sock) and are_whole(here)


@pytest.mark.parametrize("disks,says", [("x", "no disk 'x'"), ("a,a", "named twice"), ("c", "read-only"), ("a,", "'a,'")])
def test_disks_are_named_as_they_are(source, tmp_path, disks, says):
    guest, sock, _ = source
    other, _, at = awaits(tmp_path, place(tmp_path))
    with other:
        text = ctl(sock, "migrate", at, f"with-disks={disks}", status=1)
        assert says in text or says == "'a,'", text
        assert is_alive(guest, sock)


def phase(sock):
    return ctl(sock, "migration", "--json")


def until(sock, wanted):
    end = time.monotonic() + 30
    while phase(sock)["phase"] != wanted:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_limit_is_for_disks_too_and_they_are_told_apart(source, tmp_path):
    guest, sock, here = source
    there = place(tmp_path)
    other, other_sock, at = awaits(tmp_path, there)
    with other, subprocess.Popen([vivguest.VMM, "ctl", sock, "migrate", at, "bandwidth=2M", "--with-disks", "--json"],
                                 stdout=subprocess.PIPE) as asking:
        until(sock, "disks")
        begin = time.monotonic()
        while (now := phase(sock)["disks"])["done"] < 6 << 20:
            assert now["n"] == 2 and now["total"] <= 4 * SIZE and time.monotonic() - begin < 60
            time.sleep(0.02)
        assert time.monotonic() - begin > 1 and phase(sock)["so_far"]["pages"] == 0
        ctl(sock, "migrate-set", "bandwidth=0")
        asking.communicate(timeout=60)
        assert ended(guest) == 0 and is_alive(other, other_sock) and are_whole(there) and are_whole(here)


@pytest.mark.parametrize("how", ["migrate-cancel", "job-cancel"])
@pytest.mark.parametrize("when", ["disks", "memory"])
def test_cancelled_with_disks_under_way(source, tmp_path, how, when):
    guest, sock, here = source
    there = place(tmp_path)
    other, _, at = awaits(tmp_path, there)
    with other, subprocess.Popen([vivguest.VMM, "ctl", sock, "migrate", at, f"bandwidth={'1M' if when == 'disks' else '16M'}", "--with-disks"],
                                 stderr=subprocess.PIPE) as asking:
        if when == "memory":
            until(sock, when)
            ctl(sock, "migrate-set", "bandwidth=1M")
        until(sock, when)
        ctl(sock, how, *(["migrate.a"] if how == "job-cancel" else []))
        text = asking.communicate(timeout=60)[1].decode()
        assert ("was cancelled" if how == "migrate-cancel" else "disk 'a': somebody has ended the job") in text, text
        assert ended(other) == 1 and is_alive(guest, sock) and not ctl(sock, "jobs", "--json")["jobs"] and are_whole(here)
    other, other_sock, at = awaits(tmp_path, there)         # what is there is written over
    with other:
        ctl(sock, "migrate", at, "--with-disks")
        assert ended(guest) == 0 and is_alive(other, other_sock) and are_whole(there)


@pytest.mark.parametrize("kind,what", [(k, "cut") for k in (PLAN, DISKS, JOIN, MACHINE, BUILT, "disk", PAGES, STATE, READY)] +
                         [(k, "flip") for k in (DISKS, JOIN, STATE)])       # what is in a disk has no checksum on the way: TLS has
def test_what_breaks_before_the_commitment_leaves_machine_and_disks_at_the_source(source, tmp_path, kind, what):
    guest, sock, here = source
    there = place(tmp_path)
    other, _, at = awaits(tmp_path, there)
    wire = DiskWire(tmp_path, at.removeprefix("unix:"), kind, flipped if what == "flip" else lambda r: None)
    with other:
        ctl(sock, "migrate", f"unix:{wire.path}", "--with-disks", status=1)
        assert is_alive(guest, sock) and are_whole(here) and not ctl(sock, "jobs", "--json")["jobs"]
        if kind not in (PLAN, DISKS, JOIN, MACHINE):
            assert ended(other) == 1
    other, other_sock, at = awaits(tmp_path, there)
    with other:
        ctl(sock, "migrate", at, "--with-disks")
        assert ended(guest) == 0 and is_alive(other, other_sock) and are_whole(there)


@pytest.mark.parametrize("kind", [MACHINE, "disk", PAGES, STATE, READY])
@pytest.mark.parametrize("victim", ["source", "destination"])
def test_killing_either_side_with_disks_under_way(source, tmp_path, kind, victim):
    guest, sock, here = source
    other, _, at = awaits(tmp_path, place(tmp_path))

    def kill(record):
        (guest if victim == "source" else other).kill()
        return record

    wire = DiskWire(tmp_path, at.removeprefix("unix:"), kind, kill)
    with other:
        done = subprocess.run([vivguest.VMM, "ctl", sock, "migrate", f"unix:{wire.path}", "--with-disks"], stderr=subprocess.DEVNULL,
                              timeout=90, check=False)
        if victim == "source":
            assert done.returncode == 3 and ended(other) == 1
        else:
            assert done.returncode == 1
            if kind == READY:       # COMMIT was sent: who was killed could have run
                assert not runs(guest, sock)
                ctl(sock, "resume")
            assert is_alive(guest, sock)
        assert are_whole(here)


def test_without_confirmation_nobody_runs_before_the_user_says_who(source, tmp_path):
    """The locks of disks tell nothing when each side has its own."""
    guest, sock, here = source
    there = place(tmp_path)
    other, other_sock, at = awaits(tmp_path, there)
    wire = DiskWire(tmp_path, at.removeprefix("unix:"), DONE, lambda r: None)
    with other:
        assert "did not confirm" in ctl(sock, "migrate", f"unix:{wire.path}", "--with-disks", status=1)
        assert is_alive(other, other_sock) and not runs(guest, sock)
        ctl(sock, "quit")
        assert ended(guest) == 0 and is_alive(other, other_sock) and are_whole(there) and are_whole(here)


def test_a_destination_that_ends_at_the_commitment_is_known_not_to_run(source, tmp_path):
    guest, sock, here = source
    other, _, at = awaits(tmp_path, place(tmp_path))
    wire = DiskWire(tmp_path, at.removeprefix("unix:"), COMMIT, lambda r: other.kill())
    with other:
        assert "did not confirm" in ctl(sock, "migrate", f"unix:{wire.path}", "--with-disks", status=1)
        ctl(sock, "resume")
        assert is_alive(guest, sock) and are_whole(here)


def test_debian_takes_a_disk_along_that_it_writes_to(machine, tmp_path):  # noqa: F811
    guest, sock, _ = machine
    data = tmp_path / "there.qcow2"
    writes(guest, 3)
    disk = ctl(sock, "info", "--json")["disks"][0]["path"]
    other, _, at = destination(tmp_path, "--disk", f"path={disk}", "--disk", f"path={data},name=data,format=qcow2,create=on",
                               "--console", "stdio")
    with other:
        ctl(sock, "migrate", at, "with-disks=data", timeout=300)
        assert guest.wait(30) == 0
        other.send("\n")
        writes(other, 3)
        other.send("touch /root/stop\n")
        other.expect("load-is-good", 240)
        other.send("poweroff\n")
        assert other.wait(300) == 0
    raw = tmp_path / "data.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", data, raw], check=True)
    done = subprocess.run(["e2fsck", "-fn", raw], capture_output=True, text=True, env=ENV, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

# SPDX-License-Identifier: Apache-2.0
"""`viv disk serve` with the clients of libnbd and QEMU as judges, and with one that means harm."""
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VIV = os.path.join(ROOT, "build", "viv")
MIB = 1 << 20
SIZE = 8 * MIB
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
EPERM, EIO, EINVAL, ENOSPC, EOVERFLOW = 1, 5, 22, 28, 75

pytestmark = [pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img (package qemu-utils) is missing"),
              pytest.mark.skipif(not shutil.which("nbdinfo"), reason="nbdinfo (package libnbd-bin) is missing")]


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*argv):
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


def viv(*argv):
    return run(VIV, "disk", *argv)


@contextlib.contextmanager
def serving(image, *more, name=""):
    """The URI of IMAGE; the server has to end well."""
    path = os.path.abspath("nbd.sock")
    server = subprocess.Popen([VIV, "disk", "serve", "--nbd", f"unix:{path}", image, *more], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
    line = server.stdout.readline()
    assert "nbd+unix:///" in line, server.stderr.read()
    try:
        yield f"nbd+unix:///{name}?socket={path}"
        assert server.poll() is None
    finally:
        server.send_signal(signal.SIGTERM)
        said = server.communicate(timeout=30)[1]
    assert server.returncode == 0, said
    assert not os.path.exists(path)


def make_raw(path, size=SIZE, seed=1):
    rng = random.Random(seed)
    with open(path, "wb") as f:
        while f.tell() < size:
            n = min(rng.choice((4, 64, 200)) << 10, size - f.tell())
            f.write([bytes(n), rng.randbytes(n)][rng.randrange(2)])
    return path


def test_what_is_served_is_what_is_there():
    make_raw("in.raw")
    viv("convert", "in.raw", "a.qcow2")
    with serving("a.qcow2", "--export", "web", name="web") as uri:
        info = json.loads(run("nbdinfo", "--json", uri))["exports"][0]
        assert info["export-name"] == "web" and info["export-size"] == SIZE
        assert info["can_multi_conn"] and info["can_fua"] and info["can_trim"] and not info["is_read_only"]
        assert info["contexts"] == ["base:allocation"]
        run("nbdcopy", "--connections=4", uri, "out.raw")
        assert open("in.raw", "rb").read() == open("out.raw", "rb").read()
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", "in.raw", uri)
        ranges = json.loads(run("nbdinfo", "--map", "--json", uri))
        assert sum(r["length"] for r in ranges) == SIZE and {0, 3} <= {r["type"] for r in ranges}
        wrong = subprocess.run(["nbdinfo", uri.replace("web", "other")], capture_output=True, check=False)
        assert wrong.returncode != 0


def test_writing_reaches_the_image():
    make_raw("in.raw")
    viv("create", "a.qcow2", "8M")
    with serving("a.qcow2") as uri:
        run("nbdcopy", "--connections=4", "--flush", "in.raw", uri)
        run("qemu-io", "-f", "raw", "-c", "write -P 5 1000 3000", "-c", "read -P 5 1000 3000", "-c", "write -z 2M 1M",
            "-c", "write -P 6 -f 3M 64k", "-c", "discard 4M 1M", "-c", "write -P 7 5000001 70000", "-c", "flush",
            "-c", "read -P 0 2M 1M", "-c", "read -P 6 3M 64k", "-c", "read -P 7 5000001 70000", uri)
    want = bytearray(open("in.raw", "rb").read())
    want[1000:4000] = bytes([5]) * 3000
    want[2 * MIB:3 * MIB] = bytes(MIB)
    want[3 * MIB:3 * MIB + 65536] = bytes([6]) * 65536
    want[4 * MIB:5 * MIB] = bytes(MIB)
    want[5000001:5070001] = bytes([7]) * 70000
    with open("want.raw", "wb") as f:
        f.write(want)
    viv("compare", "a.qcow2", "want.raw")
    run("qemu-img", "check", "-q", "a.qcow2")


def space(*files):
    return sum(os.stat(f).st_blocks * 512 for f in files)


@pytest.mark.parametrize("image", [
    "a.raw", "a.qcow2", "a.qcow2 -o compat=0.10", "a.qcow2 -o extended_l2=on", "a.qcow2 -o data_file=a.data",
    "a.qcow2 -o data_file=a.data,data_file_raw=on", "a.qcow2 -o data_file=a.data,extended_l2=on", "a.vmdk",
    "a.vmdk -o subformat=monolithicFlat", "a.vdi", "a.vdi -o static=on", "a.vhd", "a.vhdx", "a.vhdx -o subformat=fixed", "a.hdd"])
def test_discards_and_zeroes_give_space_back_to_the_host(image):
    name, *options = image.split()
    viv("create", name, "24M", *options)
    with open("in.raw", "wb") as f:
        f.write(random.Random(1).randbytes(24 * MIB))
    files = [f for f in os.listdir() if f not in ("in.raw", "nbd.sock")]
    with serving(name) as uri:
        run("nbdcopy", "--flush", "in.raw", uri)
        full = space(*files)
        run("qemu-io", "-f", "raw", "-d", "unmap", "-c", "discard 0 8M", "-c", "flush", uri)
        discarded = space(*files)
        run("qemu-io", "-f", "raw", "-d", "unmap", "-c", "write -z -u 8M 8M", "-c", "flush", "-c", "read -P 0 8M 8M", uri)
        zeroed = space(*files)
    assert full - discarded >= 7 * MIB and discarded - zeroed >= 7 * MIB, (full, discarded, zeroed)


def test_read_only_and_bitmaps():
    run("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "8M")
    run("qemu-img", "bitmap", "--add", "-g", "64K", "a.qcow2", "daily")
    run("qemu-io", "-c", "write 1M 128k", "a.qcow2")
    with serving("a.qcow2", "--read-only", "--bitmap", "daily") as uri:
        info = json.loads(run("nbdinfo", "--json", uri))["exports"][0]
        assert info["is_read_only"] and info["contexts"] == ["base:allocation", "qemu:dirty-bitmap:daily"]
        dirty = json.loads(run("nbdinfo", "--map=qemu:dirty-bitmap:daily", "--json", uri))
        assert [(d["offset"], d["length"]) for d in dirty if d["type"] & 1] == [(MIB, 128 << 10)]
        assert subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 4k", uri], capture_output=True, check=False).returncode
        viv("info", "a.qcow2")
        viv("compare", "a.qcow2", "a.qcow2")


def test_where_to_listen_is_judged():
    viv("create", "a.qcow2", "1M")
    for where, says in (("unix:/nonexistent/x", "nonexistent"), ("udp:1", "unix:PATH"), ("tcp:many", "tcp:"),
                        ("tcp:", "tcp:")):
        done = subprocess.run([VIV, "disk", "serve", "--nbd", where, "a.qcow2"], capture_output=True, text=True, timeout=30,
                              check=False)
        assert done.returncode and says in done.stderr and done.stderr.count("\n") == 1, done.stderr
    with serving("a.qcow2"):
        done = subprocess.run([VIV, "disk", "serve", "--nbd", "unix:other", "a.qcow2"], capture_output=True, text=True,
                              timeout=30, check=False)
        assert done.returncode == 4 and "in use" in done.stderr


class Client:
    """One that says what it wants."""

    def __init__(self, uri):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(uri.split("socket=")[1])
        self.s.settimeout(20)

    def exactly(self, n):
        got = b""
        while len(got) < n:
            more = self.s.recv(n - len(got))
            if not more:
                raise EOFError
            got += more
        return got

    def hello(self):
        assert self.exactly(18)[:16] == b"NBDMAGICIHAVEOPT"
        self.s.sendall(struct.pack(">I", 3))

    def option(self, number, data=b""):
        self.s.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)

    def reply(self):
        magic, _, kind, n = struct.unpack(">QIII", self.exactly(20))
        assert magic == 0x3e889045565a9
        return kind, self.exactly(n)

    def go(self):
        self.hello()
        self.option(7, struct.pack(">IH", 0, 0))
        while self.reply()[0] != 1:
            pass
        return self

    def request(self, kind, off, length, flags=0, payload=b"", cookie=77):
        self.s.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, off, length) + payload)

    def error(self):
        magic, error, cookie = struct.unpack(">IIQ", self.exactly(16))
        assert (magic, cookie) == (0x67446698, 77)
        return error

    def is_closed(self):
        with contextlib.suppress(ConnectionError):
            while self.s.recv(65536):
                pass
        return True


def test_requests_that_cannot_be_are_refused_one_by_one():
    viv("create", "a.qcow2", "1M")
    with serving("a.qcow2") as uri:
        c = Client(uri).go()
        for args, want in (((READ, MIB, 512), EINVAL), ((READ, 0, MIB + 1), EINVAL), ((READ, 2**64 - 512, 1024), EINVAL),
                           ((WRITE, MIB, 512, 0, bytes(512)), ENOSPC), ((TRIM, MIB, 1), EINVAL), ((ZEROES, 1, MIB), ENOSPC),
                           ((READ, 0, 512, 64), EINVAL), ((STATUS, 0, 512), EINVAL), ((99, 0, 0), EINVAL),
                           ((WRITE, 0, 512, 0, bytes(512)), 0), ((FLUSH, 0, 0), 0), ((TRIM, 1, 7), 0)):
            c.request(*args)
            assert c.error() == want, args
        c.request(READ, 0, 33 * MIB)
        assert c.error() == EINVAL
        c.request(DISC, 0, 0)
        assert c.is_closed()


def test_hostile_clients_lose_their_connection_and_nobody_else_does():
    viv("create", "a.qcow2", "1M")
    rng = random.Random(5)
    with serving("a.qcow2") as uri:
        good = Client(uri).go()
        for attack in (b"GET / HTTP/1.0\r\n\r\n", bytes(64), b"\0\0\0\3" + b"IHAVEOPT" + b"\xff" * 8,
                       b"\0\0\0\3" + (b"IHAVEOPT" + struct.pack(">II", 3, 0)) * 1001, rng.randbytes(4096)):
            c = Client(uri)
            with contextlib.suppress(ConnectionError):
                c.s.sendall(attack)
            assert c.is_closed()
        for attack in (rng.randbytes(28), struct.pack(">IHHQQI", 0x25609513, 0, WRITE, 1, 0, 1 << 31)):
            c = Client(uri).go()
            c.s.sendall(attack)
            assert c.is_closed()
        half = Client(uri).go()
        half.request(WRITE, 0, 65536, payload=bytes(1000))
        half.s.close()
        # Asks for much and takes nothing: it fills its own share, and no more.
        greedy = Client(uri).go()
        greedy.s.settimeout(1)
        with contextlib.suppress(TimeoutError):
            for _ in range(20000):
                greedy.request(READ, 0, MIB)
        good.request(WRITE, 4096, 512, payload=b"x" * 512)
        assert good.error() == 0
        pid = int(run("fuser", "a.qcow2").split()[0]) if shutil.which("fuser") else 0
        if pid:
            rss = int([x for x in open(f"/proc/{pid}/status", encoding="ascii") if x.startswith("VmRSS")][0].split()[1])
            assert rss < 200 << 10
        crowd = []
        for _ in range(70):
            crowd.append(Client(uri))
        time.sleep(0.1)
        good.request(READ, 4096, 512)
        assert good.error() == 0 and good.exactly(512) == b"x" * 512
    assert viv("check", "a.qcow2")


def resident(pid):
    """MiB, and the most it ever was."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        lines = dict(line.split(":", 1) for line in f)
    return int(lines["VmRSS"].split()[0]) / 1024, int(lines["VmHWM"].split()[0]) / 1024


def fill_with(c, message):
    """Send MESSAGE again and again, until the server takes no more."""
    c.s.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(100000):
            if c.s.send(message) < len(message):
                return
    c.s.setblocking(True)


def request_of(kind, length):
    return struct.pack(">IHHQQI", 0x25609513, 0, kind, 77, 0, length)


def test_memory_is_bounded_whatever_clients_do():
    """All clients that there may be, each with as many requests as it can send: some that read nothing of what they asked for,
    some that never end what they write, some with requests of all sizes. The server has its 256 MiB for all, one request for
    each, and what it needs itself; afterwards it gives that back, and meanwhile it serves others."""
    viv("create", "a.qcow2", "64M")
    with open("in.raw", "wb") as f:
        f.write(random.Random(1).randbytes(64 * MIB))
    with serving("a.qcow2") as uri:
        run("nbdcopy", "in.raw", uri)
        good = Client(uri).go()
        pid = struct.unpack("3i", good.s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        before = resident(pid)[0]
        crowd = []
        for i in range(60):
            c = Client(uri).go()
            crowd.append(c)
            if i % 3 == 0:
                fill_with(c, request_of(READ, MIB))
            elif i % 3 == 1:
                c.request(WRITE, 0, 2 * MIB, payload=bytes(MIB))
            else:
                fill_with(c, request_of(READ, 512) + request_of(READ, 3 * MIB) + request_of(WRITE, 4096) + bytes(4096))
        for _ in range(20):
            good.request(WRITE, 4096, 512, payload=b"x" * 512)
            assert good.error() == 0
            good.request(READ, 4096, 512)
            assert good.error() == 0 and good.exactly(512) == b"x" * 512
            time.sleep(0.02)
        most = resident(pid)[1]
        # One request of each, a receiving buffer, and what sockets of a loopback hold is the kernel's.
        assert before + 100 < most < before + 256 + 20 * 1 + 20 * 2 + 20 * 3 + 60 * 0.25 + 32, most
        for c in crowd:
            c.s.close()
        for _ in range(200):
            if resident(pid)[0] < before + 48:
                break
            time.sleep(0.05)
        assert resident(pid)[0] < before + 48
        good.request(READ, 4096, 512)
        assert good.error() == 0 and good.exactly(512) == b"x" * 512

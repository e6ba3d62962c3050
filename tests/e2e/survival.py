# SPDX-License-Identifier: Apache-2.0
"""A Debian under load - checksums, compilers, a file that grows, a TCP stream, clocks that are watched - and what is
done to it meanwhile: saved and restored, migrated, upgraded, forked, given devices and relieved of them. All is drawn
from a seed. What a guest must not notice is an error (Wrong)."""
import ctypes
import json
import os
import re
import socket
import struct
import subprocess
import threading
import time
import zlib

import vivguest

HERE = os.path.dirname(os.path.abspath(__file__))
ENV = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
GUEST_ADDRESS, HOST_ADDRESS, OUTSIDE_ADDRESS = "10.77.0.2", "10.77.0.1", "10.77.0.254"
MAC = {"net0": "52:54:00:00:77:02", "extra": "52:54:00:00:77:03", "passt": "52:54:00:00:77:04"}
TAPS = ("net0", "extra")
SERVE_PORT = 1000
JUMP_NS = 50_000_000
RECORD = 4096
CLONE_NEWNET = 0x40000000

# What a kernel says when a device or a clock was not what it should be; not what it thinks of a model of processors and points to a page about.
COMPLAINTS = re.compile(
    r"I/O error|EXT4-fs (error|warning)|BUG:|WARNING:(?! See https)|Oops|lockup|stall|blocked for more|unstable|general protection|segfault|"
    r"NETDEV WATCHDOG|allocation failure|Out of memory|probe of virtio.*failed|virtio.*(broken|timeout)")

LOAD = r"""#!/bin/bash
# What the guest does all the time. A line in /run/survive/bad is an error.
mkdir -p /run/survive
bad() { echo "$*" >>/run/survive/bad; }
echo online_movable >/sys/devices/system/memory/auto_online_blocks
sum() { cat /usr/bin/* 2>/dev/null | sha256sum; }
sums() { first=$(sum); n=0; while :; do [ "$(sum)" = "$first" ] || bad "checksum of /usr/bin"; n=$((n+1)); echo $n >/run/survive/sums; done; }
object() { gcc -O2 -c /usr/local/src/survive.c -o /root/survive.o && sha256sum </root/survive.o; }
compiles() { first=$(object); n=0; while :; do [ "$(object)" = "$first" ] || bad "object of the compiler"; n=$((n+1)); echo $n >/run/survive/compiles; done; }
grows() { n=0; while :; do echo "line $n of the file that grows" >>/root/grows || bad "write $n"; [ $((n % 8)) = 0 ] && sync; n=$((n+1)); sleep 0.02; done; }
survive serve @PORT@ &
survive clock &
# Whoever asks the guest how it is does not wait for them.
renice -n 10 $$ >/dev/null
sums &
[ -x /usr/bin/gcc ] && compiles &
renice -n 0 $$ >/dev/null
grows &
until ip -4 addr show | grep -q @ADDRESS@; do sleep 0.1; done
survive stream @HOST@ @STREAM@ &
wait
"""
UNIT = "[Unit]\nAfter=local-fs.target\n[Service]\nExecStart=/usr/local/sbin/load\nOOMScoreAdjust=-500\n[Install]\nWantedBy=multi-user.target\n"
NETWORK = f"[Match]\nMACAddress={MAC['net0']}\n[Network]\nAddress={GUEST_ADDRESS}/24\n"
UNMANAGED = f"[Match]\nMACAddress={MAC['extra']} {MAC['passt']}\n[Link]\nUnmanaged=yes\n"
ONLINE = 'SUBSYSTEM=="cpu", ACTION=="add", ATTR{online}=="0", ATTR{online}="1"\n'


class Wrong(Exception):
    """The guest, or whoever watches it, has noticed."""


def until(condition, what, timeout=120, step=0.05):
    """The first true value of CONDITION."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise Wrong(f"{what}: not within {timeout} s")
        time.sleep(step)
    return value


def run(*argv, **kw):
    return subprocess.run([*map(str, argv)], check=True, env=ENV, capture_output=True, text=True, **kw)


# --- the network: a bridge in a namespace, and two taps for each interface, for two processes at a time ---

class Network:
    """Taps stay when a process goes, and with them the guest's connections."""

    def __init__(self):
        self.ns = f"vivsurvive{os.getpid()}"
        run("ip", "netns", "add", self.ns)
        self.inside = ["ip", "netns", "exec", self.ns]
        for line in ("link set lo up", "link add br0 type bridge", f"addr add {HOST_ADDRESS}/24 dev br0", "link set br0 up",
                     f"route add default via {OUTSIDE_ADDRESS}"):       # nobody is there, but passt wants one
            run(*self.inside, "ip", *line.split())
        for tap in (f"{name}{i}" for name in TAPS for i in (0, 1)):
            for line in (f"tuntap add dev {tap} mode tap vnet_hdr", f"link set {tap} master br0", f"link set {tap} up"):
                run(*self.inside, "ip", *line.split())

    def listen(self):
        """A listening socket in the namespace."""
        found = []

        def enter():
            with open(f"/run/netns/{self.ns}", "rb") as f:
                if ctypes.CDLL(None, use_errno=True).setns(f.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            found.append(socket.create_server((HOST_ADDRESS, 0)))
        thread = threading.Thread(target=enter)     # a namespace is a thread's
        thread.start()
        thread.join()
        return found[0]

    def end(self):
        subprocess.run(["ip", "netns", "del", self.ns], check=False, env=ENV)


class Stream:
    """The host's end of the connection: records go both ways, each with its number and its checksum."""

    def __init__(self, listener):
        self.listener, self.sent, self.received, self.trouble, self.is_over = listener, 0, 0, None, False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        peer, _ = self.listener.accept()
        for work in (self._send, self._receive):
            threading.Thread(target=self._guarded, args=(work, peer), daemon=True).start()
        self.listener.settimeout(None)
        self.listener.accept()
        self.trouble = self.trouble or "the guest has connected anew"

    def _guarded(self, work, peer):
        try:
            work(peer)
        except OSError as why:
            self.trouble = self.trouble or f"{work.__name__}: {why}"

    def _send(self, peer):
        noise = os.urandom(RECORD)
        while not self.is_over:
            at = self.sent % 4000
            body = struct.pack("<Q", self.sent) + (noise[at:] + noise[:at])[:RECORD - 12]
            peer.sendall(body + struct.pack("<I", zlib.crc32(body)))
            self.sent += 1
            time.sleep(0.004)

    def _receive(self, peer):
        while not self.is_over:
            record = b""
            while len(record) < RECORD:
                piece = peer.recv(RECORD - len(record))
                if not piece:
                    raise OSError("the guest has closed it")
                record += piece
            number, crc = struct.unpack("<Q", record[:8])[0], struct.unpack("<I", record[-4:])[0]
            if number != self.received or crc != zlib.crc32(record[:-4]):
                raise OSError(f"record {self.received} came as {number} with checksum {crc:08x}")
            self.received += 1


# --- one process ---

class Control:
    """A connection to the control socket (docs/api/control.md)."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(300)
        until(lambda: self.socket.connect_ex(path) == 0, f"nobody listens on {path}", 60, 0.005)
        self.file = self.socket.makefile("rb")

    def __call__(self, request, **params):
        text = json.dumps({"request": request, "params": params}).encode()
        self.socket.sendall(struct.pack("<I", len(text)) + text)
        answer = json.loads(self.file.read(struct.unpack("<I", self.file.read(4))[0]))
        if "error" in answer:
            raise Wrong(f"{request} {params}: {answer['error']['message']}")
        return answer["result"]

    def close(self):
        self.file.close()
        self.socket.close()


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Cut(Exception):
    """A connection over the socket device has ended: a guest that was restored or copied resets those that it has, and one
    that is made before it has heard of that is among them."""


def again(call, tries=5):
    """CALL(), once more when it was Cut."""
    for left in reversed(range(tries)):
        try:
            return call()
        except (Cut, OSError) as why:
            if not left:
                raise Wrong(f"the guest's socket device: {why}") from None
            time.sleep(0.5)


class GuestPort:
    """What runs in the guest is reached over its socket device."""

    def __init__(self, path):
        self.path = path

    def connect(self, line):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(120)
        s.connect(self.path)
        s.sendall(f"CONNECT {SERVE_PORT}\n".encode())
        told = b""
        while not told.endswith(b"\n"):
            c = s.recv(1)
            if not c:
                raise Cut("the guest does not listen")
            told += c
        s.sendall(line.encode() + b"\n")
        return s

    def shell(self, line, timeout=120):
        """Its output; Wrong unless it ends with 0. It may be run more than once."""
        return again(lambda: self.shell_once(line, timeout))

    def shell_once(self, line, timeout):
        with self.connect(line) as s:
            s.settimeout(timeout)
            told = b""
            while not re.search(rb"status \d+\n$", told):
                piece = s.recv(65536)
                if not piece:
                    raise Cut(f"'{line}': the connection ended after {told[-200:]}")
                told += piece
        text, _, status = told.decode(errors="replace").rpartition("status ")
        if int(status):
            raise Wrong(f"'{line}' in the guest: status {status.strip()}: {text[-500:]}")
        return text.strip()

    def is_there(self):
        try:
            return self.shell_once("echo there", 60) == "there"
        except (OSError, Wrong, Cut):
            return False


class Machine:
    """The guest, whichever process runs it."""

    def __init__(self, folder, network, log):
        self.folder, self.network, self.log = folder, network, log
        self.n, self.pid, self.tap, self.control, self.port = 0, None, 0, None, None
        self.processes = []
        self.nets = ["net0"]
        self.stream_path = None         # of the console that was plugged

    def path(self, name):
        return os.path.join(self.folder, name)

    def net_options(self, tap):
        """--net of all interfaces, on the taps number TAP."""
        kinds = {name: f"tap,ifname={name}{tap}" if name in TAPS else "user" for name in self.nets}
        return [o for name, kind in kinds.items() for o in ("--net", f"{kind},mac={MAC[name]},name={name}")]

    def console_options(self):
        """--console of all; the stream that was plugged gets a socket of its own in each process, until keep_console() says which."""
        options = ["--console", f"file:{self.path('console')}"]
        if self.stream_path:
            options += ["--console", f"socket:{self.path(f'stream{self.n + 1}')},device=virtio,name=survive.console,id=stream"]
        return options

    def keep_console(self):
        if self.stream_path:
            self.stream_path = self.path(f"stream{self.n}")

    def spawn(self, *options):
        """A process with sockets of its own; its control socket's and its socket device's path."""
        self.n += 1
        sock, port = self.path(f"s{self.n}"), self.path(f"v{self.n}")
        with open(self.path(f"stderr{self.n}"), "wb") as errors:
            self.processes.append(subprocess.Popen(
                [*self.network.inside, vivguest.VMM, *map(str, options), "--control", sock, "--vsock", port, "--log-level", "info"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=ENV, start_new_session=True))
        return sock, port

    def stderr(self):
        with open(self.path(f"stderr{self.n}"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def adopt(self, sock, port):
        """That process has the machine now."""
        if self.control:
            self.control.close()
        try:
            self.control = Control(sock)
            info = self.control("info")
        except (Wrong, OSError, struct.error) as why:
            raise Wrong(f"{why}; its process has {self.how_it_is()} and said: {self.stderr()[-1000:]}") from None
        self.port = GuestPort(port)
        self.sock, self.pid = sock, info["pid"]

    def how_it_is(self):
        """Of the process that was started last."""
        try:
            return f"ended with {self.processes[-1].wait(10)}"
        except subprocess.TimeoutExpired:
            return "not ended"

    def ctl(self, *args, timeout=300):
        done = subprocess.run([vivguest.VMM, "ctl", self.sock, *map(str, args)], capture_output=True, text=True, timeout=timeout,
                              check=False)
        if done.returncode:
            raise Wrong(f"ctl {' '.join(map(str, args))}: {done.stderr.strip() or done.stdout.strip()}\n{self.stderr()[-1500:]}")
        return done.stdout

    def wait_end(self, pid):
        until(lambda: not is_running(pid), f"process {pid} does not end", 60)
        for p in self.processes:
            p.poll()

    def end(self):
        if self.pid and is_running(self.pid):
            os.kill(self.pid, 9)
        for p in self.processes:
            if p.poll() is None:
                p.kill()
            p.wait()


# --- clocks ---

class Clocks:
    """The guest's clocks against the machine's time and the host's."""

    def __init__(self, machine):
        self.machine = machine
        self.offset = None              # of CLOCK_MONOTONIC to the machine's time: (least, most)

    def look(self):
        """((least, most) of CLOCK_MONOTONIC less the machine's time, the same of CLOCK_REALTIME less the host's)"""
        m, mono, real = self.machine, (-1 << 62, 1 << 62), (-1 << 62, 1 << 62)
        with m.port.connect("time") as s, s.makefile("r") as lines:
            for _ in range(40):
                wall, before = time.time_ns(), m.control("info")["guest_time_ns"]
                s.sendall(b"t")
                if not (line := lines.readline()):
                    raise Cut("the clock does not answer")
                there = [int(x) for x in line.split()]
                after, wall_after = m.control("info")["guest_time_ns"], time.time_ns()
                mono = max(mono[0], there[0] - after), min(mono[1], there[0] - before)
                real = max(real[0], there[1] - wall_after), min(real[1], there[1] - wall)
                if mono[1] - mono[0] < JUMP_NS // 5 and real[1] - real[0] < JUMP_NS // 5:
                    break
        return mono, real

    def check(self, is_corrected):
        """No jump since the last look. CLOCK_REALTIME is right, if IS_CORRECTED, or corrected now."""
        mono, real = again(self.look)
        old, self.offset = self.offset, mono
        if old and (mono[0] - old[1] > JUMP_NS or old[0] - mono[1] > JUMP_NS):
            raise Wrong(f"CLOCK_MONOTONIC has jumped: it was {old} ns from the machine's time and is {mono}")
        if is_corrected and (real[0] > JUMP_NS or real[1] < -JUMP_NS):
            raise Wrong(f"CLOCK_REALTIME is {real} ns from the host's")
        return real

    def correct(self):
        """What was wrong of CLOCK_REALTIME, in ns."""
        real = self.check(False)
        middle = (real[0] + real[1]) // 2
        with again(lambda: self.machine.port.connect(f"adjust {-middle}")) as s, s.makefile("r") as lines:
            if (told := lines.readline()) != "status 0\n":
                raise Wrong(f"the clock cannot be set: {told}")
        self.check(True)
        return middle

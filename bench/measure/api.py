# SPDX-License-Identifier: Apache-2.0
"""api - the daemon's answers on its Unix socket: 1,000 instances are defined, 100 small machines run. The same questions go to
Incus of Debian backports with as many instances that are defined; its containers run no system."""
import concurrent.futures
import functools
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import time

from .instrument import cpu_ns
from .report import Skip
from .subject import BUILD, ROOT, WORK, Options, vivguest

DEFINED, RUNNING, DOCUMENTS = 1000, 100, 10000
LISTS, GETS = 200, 20000                # requests of a round
AT_ONCE = 16                            # clients that fill a daemon
INCUS_GETS = 2000
START_S = 60


class Connection:
    """One that is kept. It sends bytes and looks for lengths only, so that what is measured is the server."""
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(path)

    def ask(self, method, path, body=None):
        text = b"" if body is None else json.dumps(body).encode()
        self.sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: viv\r\nContent-Length: {len(text)}\r\n"
                          "Content-Type: application/json\r\n\r\n".encode() + text)
        said = b""
        while b"\r\n\r\n" not in said:
            said += self._more()
        head, _, rest = said.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        parts, have = [rest], len(rest)
        while have < int(length.group(1)) if length else not parts[-1].endswith(b"0\r\n\r\n"):
            parts.append(self._more())
            have += len(parts[-1])
        text = b"".join(parts)
        if status >= 300:
            raise ValueError(f"{method} {path}: {status} {text[:300]!r}")
        return text if length else b"".join(re.split(rb"(?:^|\r\n)[0-9a-f]+\r\n", text))

    def _more(self):
        data = self.sock.recv(1 << 18)
        if not data:
            raise ValueError("the server has closed the connection")
        return data


class Server:
    """A daemon: NAME, its processor time and memory."""
    def __init__(self, name, argv, socket_path, ready, env=None):
        self.name, self.argv, self.path, self.ready, self.env = name, argv, socket_path, ready, env
        self.proc = None

    def start(self):
        """Seconds until it answers."""
        begin = time.monotonic()
        with open(os.path.join(WORK, self.name + ".log"), "ab") as log:
            self.proc = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                         env=dict(os.environ, **(self.env or {})))
        while True:
            try:
                self.ask("GET", self.ready)
                return time.monotonic() - begin
            except (OSError, ValueError):
                if self.proc.poll() is not None or time.monotonic() > begin + START_S:
                    raise ValueError(f"{self.name} does not serve") from None
                time.sleep(0.002)

    def ask(self, method, path, body=None):
        """On a connection of its own, as one that is idle for long is closed."""
        return json.loads(Connection(self.path).ask(method, path, body) or "null")

    def stop(self):
        if self.proc:
            self.proc.send_signal(signal.SIGTERM)
            self.proc.wait(60)
            self.proc = None

    def resident_mib(self):
        with open(f"/proc/{self.proc.pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) / 1024

    def timed(self, path, n):
        """(ms in the middle, ms that 99 % are below, requests for each second of the server's processor time)"""
        link, took, cpu = Connection(self.path), [], cpu_ns(self.proc.pid)
        for i in range(n):
            begin = time.perf_counter()
            link.ask("GET", path.format(i % DEFINED))
            took.append((time.perf_counter() - begin) * 1e3)
        cpu = cpu_ns(self.proc.pid) - cpu
        took.sort()
        return took[n // 2], took[n * 99 // 100], n * 1e9 / cpu


def vivd(name):
    folder = os.path.join(WORK, name)
    os.makedirs(folder, exist_ok=True)
    run = os.path.join(folder, "run")
    return Server(name, [os.path.join(BUILD, "vivd"), "--data", os.path.join(folder, "data"), "--run", run, "--log-level", "warn"],
                  os.path.join(run, "api.sock"), "/v1/setup")


def incus():
    """Incus in a network namespace of its own, as it asks strangers for things when it starts."""
    folder, data = os.path.join(BUILD, "bench", "incus"), os.path.join(WORK, "incus")
    done = subprocess.run([os.path.join(ROOT, "bench", "incus-backports"), folder], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=600, check=False)
    if done.returncode:
        raise Skip((done.stderr.strip().splitlines() or ["Incus is not to be had from backports"])[-1])
    os.makedirs(data)
    return Server("incus", ["unshare", "-n", "--", os.path.join(folder, "incusd"), "--group", "root"],
                  os.path.join(data, "unix.socket"), "/1.0", {"INCUS_DIR": data})


def fill(server, n, make):
    """MAKE(connection, i) for each of N; how many a second."""
    def part(first):
        link = Connection(server.path)
        for i in range(first, n, AT_ONCE):
            make(link, i)
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(part, range(AT_ONCE)))
    return n / (time.monotonic() - begin)


def fill_vivd(server, n, running):
    return fill(server, n, lambda link, i: link.ask("POST", "/v1/instances", machine(i, i < running)))


def fill_incus(server, n):
    server.ask("POST", "/1.0/storage-pools", {"name": "default", "driver": "dir"})
    server.ask("PATCH", "/1.0/profiles/default", {"devices": {"root": {"path": "/", "pool": "default", "type": "disk"}}})

    def make(link, i):
        done = json.loads(link.ask("POST", "/1.0/instances", {"name": f"m-{i}", "type": "container", "source": {"type": "none"},
                                                             "config": {"security.privileged": "true"}}))
        link.ask("GET", done["operation"] + "/wait")
    return fill(server, n, make)


@functools.cache
def guest_files():
    return {"kernel": os.path.join(vivguest.kernel("bookworm"), "vmlinuz"),
            "initrd": vivguest.initrd("bookworm", "echo up\nsleep 1000000\n", "api")}


def machine(i, is_on):
    return {"name": f"m-{i}", "spec": {**guest_files(), "state": "running" if is_on else "stopped", "memory": "96M",
                                       "cmdline": "console=ttyS0 quiet cryptomgr.notests", "networks": []}}


def wait_running(server, n):
    end = time.monotonic() + 600
    while True:
        items = server.ask("GET", "/v1/instances?fields=name,status.state")["items"]
        states = [i.get("status", {}).get("state") for i in items]
        if states.count("running") >= n:
            return
        if time.monotonic() > end:
            raise ValueError(f"only {states.count('running')} of {n} machines run")
        time.sleep(0.5)


def compare(report, servers):
    """Each question to each server in turn. SERVERS: (server, path of the list, path of one, requests for one)."""
    got = {}
    for server, many, _, _ in servers:
        answer = server.ask("GET", many)
        if len(answer["items" if server.name == "vivd" else "metadata"]) != DEFINED:
            raise ValueError(f"{server.name} does not list {DEFINED} instances")
    for _ in range(Options.rounds):
        for server, many, one, n in servers:
            for what, path, count in (("list of 1,000", many, LISTS if server.name == "vivd" else LISTS // 10), ("one of 1,000", one, n)):
                got.setdefault((what, server.name), []).append(server.timed(path, count))
    for (what, name), values in got.items():
        middle, worst, rate = ([v[k] for v in values] for k in range(3))
        report.line(f"api: {name}, {what}, ms, 99th percentile", worst, 2)
        report.line(f"api: {name}, {what}, ms", middle, 3)
        report.line(f"api: {name}, {what}, per second of its processor", rate, 0)
    for what in ("list of 1,000", "one of 1,000"):
        if (what, "incus") in got:
            ours, theirs = (statistics.median(v[0] for v in got[what, n]) for n in ("vivd", "incus"))
            report.line(f"api: {what}, Incus' time to ours", [theirs / ours], 1)


def bench_start(report):
    """A daemon that is started over many documents."""
    server, took, resident = vivd("vivd-many"), [], []
    server.start()
    rate = fill_vivd(server, DOCUMENTS, 0)
    for _ in range(max(3, Options.rounds)):
        server.stop()
        took.append(server.start() * 1e3)
        resident.append(server.resident_mib())
    server.stop()
    report.line(f"api: vivd, documents made per second, {AT_ONCE} at once", [rate], 0)
    report.line("api: vivd, start with 10,000 documents, ms", took, 0)
    report.line("api: vivd, resident with 10,000 documents, MiB", resident, 1)
    shutil.rmtree(os.path.join(WORK, "vivd-many"), ignore_errors=True)


def bench_api(report):
    if os.geteuid():
        raise Skip("only root can run the node's daemon and Incus")
    guest_files()
    bench_start(report)
    ours, servers = vivd("vivd"), []
    try:
        ours.start()
        made = {"vivd": fill_vivd(ours, DEFINED, RUNNING)}
        wait_running(ours, RUNNING)
        time.sleep(10)                  # guests come to rest
        servers.append((ours, "/v1/instances", "/v1/instances/m-{}", GETS))
        try:
            theirs = incus()
            theirs.start()
            made["incus"] = fill_incus(theirs, DEFINED)
            servers.append((theirs, "/1.0/instances?recursion=1", "/1.0/instances/m-{}", INCUS_GETS))
        except Skip as why:
            print(f"skipped: api: Incus: {why}")
        for name, rate in made.items():
            report.line(f"api: {name}, instances defined per second, {AT_ONCE} at once", [rate], 0)
        compare(report, servers)
        for server, *_ in servers:
            report.line(f"api: {server.name}, resident, MiB", [server.resident_mib()], 1)
    finally:
        stop_machines(ours)
        for server in [s[0] for s in servers] or [ours]:
            server.stop()


def stop_machines(server):
    """They would outlive their daemon."""
    if not server.proc:
        return
    for i in range(DEFINED):
        try:
            server.ask("DELETE", f"/v1/instances/m-{i}")
        except (ValueError, OSError):
            pass
    end = time.monotonic() + 60
    while server.ask("GET", "/v1/instances")["items"] and time.monotonic() < end:
        time.sleep(0.2)


MEASUREMENTS = {"api": bench_api}

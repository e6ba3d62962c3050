# SPDX-License-Identifier: Apache-2.0
"""Pools on file systems of others: a server that hangs, one that dies, and two daemons for one directory."""
import glob
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time

import pytest
import vivguest
from test_node import Node, guest, log_has  # noqa: F401
from test_pool import Apart, states
from test_volume_move import COUNT, goes_on, numbers
from unwell import Later

SFTP = "/usr/lib/openssh/sftp-server"


class Remote(Apart):
    """A daemon with a directory of an SSH server's: sshfs, which is all of a network file system that needs no kernel of its own."""
    def __init__(self, folder):
        super().__init__(folder)
        self.far = os.path.join(folder, "far")
        os.mkdir(self.far, 0o755)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(folder, name)], check=True, timeout=30)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        os.makedirs("/run/sshd", exist_ok=True)
        self.sshd = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", str(self.port), "-h", os.path.join(folder, "host"),
                                      "-o", "ListenAddress=127.0.0.1", "-o", "PidFile=none", "-o", "UsePAM=no", "-o", "StrictModes=no", "-o",
                                      f"AuthorizedKeysFile={folder}/user.pub", "-o", "PermitRootLogin=yes", "-o", f"Subsystem=sftp {SFTP}"],
                                     stderr=subprocess.DEVNULL)

    def mount(self, size=None, at=None, more=("-o", "allow_other")):
        end = time.monotonic() + 30
        while True:
            try:
                self.inside("sshfs", f"root@127.0.0.1:{self.far}", self.place, "-p", str(self.port), "-o", f"IdentityFile={self.folder}/user", "-o",
                            "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", *more)
                return
            except subprocess.CalledProcessError:
                assert time.monotonic() < end
                time.sleep(0.2)

    def servers(self):
        """Processes of the connection, on the server's side."""
        children = {}
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(path, encoding="utf-8", errors="replace") as f:
                    number, _, rest = f.read().partition(" ")
            except OSError:
                continue
            children.setdefault(int(rest.rpartition(")")[2].split()[1]), []).append(int(number))
        found, left = [], [self.sshd.pid]
        while left:
            left += (mine := children.get(left.pop(), []))
            found += mine
        return found

    def signal(self, signo):
        for pid in self.servers():
            os.kill(pid, signo)

    def end(self):
        try:
            self.signal(signal.SIGKILL)
        finally:
            super().end()
            self.sshd.kill()
            self.sshd.wait()


@pytest.fixture
def remote():
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("file systems in user space are mounted by root")
    for program in ("sshfs", "/usr/sbin/sshd", SFTP):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o700)
    n = Remote(folder)
    n.start()
    yield n
    n.end()
    subprocess.run(["umount", "-l", n.place], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["rm", "-rf", folder], check=True)


def answers_at_once(n):
    """Whatever hangs, who asks for something else hears at once."""
    for path in ("/v1/pools", "/v1/volumes", "/v1/instances", "/v1/tasks"):
        since = time.monotonic()
        n.ask("GET", path)
        assert time.monotonic() - since < 5, path


def test_a_server_that_hangs_or_dies_holds_up_nothing_else(remote, guest):  # noqa: F811
    n = remote
    n.mount(more=())
    n.ask("POST", "/v1/pools", {"name": "far", "spec": {"path": n.place}}, status=201)
    assert "'allow_other'" in n.wait("/v1/pools/far", "failed")["status"]["reason"]
    n.viv("pool", "rm", "far")
    n.inside("umount", n.place)
    n.mount()
    n.viv("pool", "create", "far", "--path", n.place)
    status = n.wait("/v1/pools/far", "ready")["status"]
    assert status["file_system"] == "fuse.sshfs" and status["driver"] == "dir" and status["shares_blocks"] is False
    n.viv("volume", "create", "v", "16M", "--pool", "far")
    n.viv("volume", "create", "w", "8M", "--pool", "far", "--format", "raw")
    spec = dict(guest, initrd=vivguest.initrd("bookworm", COUNT, "node-count"), disks=[{"volume": "v"}])
    n.ask("POST", "/v1/instances", {"name": "c", "spec": spec}, status=201)
    n.wait("/v1/instances/c", "running")
    log_has(n, "c", "has 3")
    n.signal(signal.SIGSTOP)
    try:
        # Things that wait for it, more than there are threads for all the rest.
        for k in range(6):
            n.ask("POST", "/v1/volumes", {"name": f"far{k}", "spec": {"size": "1M", "pool": "far"}}, status=201)
        n.ask("PATCH", "/v1/volumes/w", {"spec": {"size": "16M"}})
        answers_at_once(n)
        assert "has not answered" in states(n, "/v1/pools/far", ["gone"], 90)["status"]["reason"]
        states(n, "/v1/volumes/v", ["unavailable"], 90)
        n.viv("volume", "create", "here", "8M")
        n.viv("volume", "grow", "here", "12M")
        n.ask("POST", "/v1/instances", {"name": "d", "spec": dict(guest, disks=[{"volume": "here"}])}, status=201)
        n.wait("/v1/instances/d", "running")
        answers_at_once(n)
        # It stands still, and nobody takes it for broken.
        assert n.ask("GET", "/v1/instances/c")["status"]["state"] == "running"
    finally:
        n.signal(signal.SIGCONT)
    n.wait("/v1/pools/far", "ready")
    for name in ("v", "w", *(f"far{k}" for k in range(6))):
        n.wait(f"/v1/volumes/{name}", "ready")
    end = time.monotonic() + 60
    while n.ask("GET", "/v1/volumes/w")["status"]["size"] != 16 << 20:
        assert time.monotonic() < end
        time.sleep(0.1)
    goes_on(n)
    # The connection breaks: that is an error, for guests as well, until it is mounted again.
    last = max(numbers(n))
    n.signal(signal.SIGKILL)
    states(n, "/v1/pools/far", ["gone"], 90)
    states(n, "/v1/volumes/v", ["unavailable"], 90)
    answers_at_once(n)
    n.ask("PATCH", "/v1/instances/c", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
    n.wait("/v1/instances/c", "stopped")
    # sshfs ends with its connection, and its mount with it; others stay.
    n.inside("sh", "-c", f"umount -l {n.place} 2>/dev/null; true")
    n.mount()
    n.wait("/v1/volumes/v", "ready")
    n.ask("PATCH", "/v1/instances/c", {"spec": {"state": "running"}})
    n.wait("/v1/instances/c", "running")
    goes_on(n)
    assert max(numbers(n)) >= last
    # And a daemon ends although it hangs, as far as that is its own: the kernel keeps a process whose thread waits for an answer.
    n.signal(signal.SIGSTOP)
    try:
        states(n, "/v1/pools/far", ["gone"], 90)
        n.proc.send_signal(signal.SIGTERM)
        end = time.monotonic() + 60
        while "not waited for any more" not in n.log():
            assert time.monotonic() < end, n.log()
            time.sleep(0.1)
    finally:
        n.signal(signal.SIGCONT)
    n.proc.wait(30)


def test_paths_below_a_file_system_that_hangs(remote, guest):  # noqa: F811
    """Who names them hears that within seconds, however many do; the rest goes on, and so does a daemon that begins then."""
    n = remote
    n.mount()
    with open(os.path.join(n.far, "disk.raw"), "wb") as f:
        f.truncate(1 << 20)
    os.mkdir(os.path.join(n.far, "below"))
    n.viv("volume", "create", "here", "8M")
    n.ask("POST", "/v1/instances", {"name": "stays", "spec": dict(guest, disks=[{"volume": "here"}])}, status=201)
    n.wait("/v1/instances/stays", "running")
    n.viv("pool", "create", "far", "--path", f"{n.place}/below")
    n.wait("/v1/pools/far", "ready")
    n.viv("volume", "create", "v", "8M", "--pool", "far")
    n.ask("POST", "/v1/instances", {"name": "off", "spec": dict(guest, state="stopped", disks=[{"volume": "v"}])}, status=201)
    n.wait("/v1/instances/off", "stopped")
    image, pool = {"source": {"path": f"{n.place}/disk.raw"}}, {"path": f"{n.place}/another"}
    # The kernel keeps a process whose thread waits for an answer, so the daemon before has gone when it hangs; its mounts are kept.
    keeper = subprocess.Popen(["nsenter", "-t", str(n.proc.pid), "--mount", "sleep", "600"])
    time.sleep(0.2)
    n.kill()
    n.prefix = ["nsenter", "-t", str(keeper.pid), "--mount"]
    n.signal(signal.SIGSTOP)
    try:
        since = time.monotonic()
        n.start()
        assert time.monotonic() - since < 30
        answers_at_once(n)
        assert n.wait("/v1/instances/stays", "running") and n.ask("GET", "/v1/instances/off")["name"] == "off"
        asked = [Later(lambda k=k: n.ask("POST", f"/v1/{'pools' if k % 2 else 'images'}", {"name": f"n{k}", "spec": pool if k % 2 else image},
                                         status=504)) for k in range(10)]
        answers_at_once(n)
        for one in asked:
            no = one.result()["error"]
            assert no["code"] == "timeout" and n.place in no["message"] and "has not answered" in no["message"], no
            assert no["field"] in ("spec.path", "spec.source.path"), no
        # What is no file of the host's is not held up by those.
        assert n.ask("POST", "/v1/images", {"name": "none", "spec": {"source": {"instance": "nobody"}}}, status=400)["error"]["field"]
        assert "has not answered" in states(n, "/v1/pools/far", ["gone"], 90)["status"]["reason"]
        states(n, "/v1/volumes/v", ["unavailable"], 90)
        # What hangs can be asked to start and to go, and is not waited for.
        n.ask("PATCH", "/v1/instances/off", {"spec": {"state": "running"}})
        n.ask("DELETE", "/v1/instances/stays", status=202)
        n.wait_gone("/v1/instances/stays")
        n.ask("DELETE", "/v1/volumes/here", status=202)
        n.wait_gone("/v1/volumes/here")
        n.ask("DELETE", "/v1/instances/off", status=202)
        answers_at_once(n)
    finally:
        n.signal(signal.SIGCONT)
        keeper.kill()
        keeper.wait()
    n.wait_gone("/v1/instances/off")
    n.wait("/v1/volumes/v", "ready")
    n.ask("POST", "/v1/images", {"name": "later", "spec": image}, status=201)
    n.wait("/v1/images/later", "ready")
    assert "no directory" in n.ask("POST", "/v1/pools", {"name": "later", "spec": pool}, status=400)["error"]["message"]


# --- two daemons ---

@pytest.fixture
def two(tmp_path):
    made = []

    def another(data=None):
        folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
        os.mkdir(folder, 0o700)
        n = Node(folder)
        if data:
            shutil.copytree(data, n.data, symlinks=True)
        made.append(n)
        return n.start()

    yield another
    for n in made:
        n.end()
        subprocess.run(["rm", "-rf", n.folder], check=True)


def test_a_directory_is_the_pool_of_one_daemon(two, tmp_path, guest):  # noqa: F811
    place = tmp_path / "shared"
    place.mkdir(mode=0o755)
    a = two()
    a.viv("pool", "create", "p", "--path", str(place))
    a.viv("volume", "create", "v", "8M", "--pool", "p")
    a.ask("POST", "/v1/instances", {"name": "c", "spec": dict(guest, disks=[{"volume": "v"}])}, status=201)
    a.wait("/v1/instances/c", "running")
    # Another one does not make it its own.
    b = two()
    b.ask("POST", "/v1/pools", {"name": "p", "spec": {"path": str(place)}}, status=201)
    assert "another pool already" in b.wait("/v1/pools/p", "failed")["status"]["reason"]
    b.viv("pool", "rm", "p")
    assert (place / ".viv-pool").exists()
    # Nor does one whose store is a copy, as on a host that was restored from a backup while this one lives.
    a.kill()
    copy = two(a.data)
    a.start()
    a.wait("/v1/instances/c", "running")
    gone = copy.wait("/v1/pools/p", "gone")["status"]["reason"]
    assert a.data in gone and ".viv-pool.host" in gone
    copy.wait("/v1/volumes/v", "unavailable")
    copy.ask("PATCH", "/v1/volumes/v", {"spec": {"size": "16M"}})
    copy.ask("DELETE", "/v1/instances/c", status=202)
    copy.wait_gone("/v1/instances/c")
    copy.ask("DELETE", "/v1/volumes/v", status=202)
    time.sleep(1)
    uid = a.ask("GET", "/v1/volumes/v")["uid"]
    assert a.wait("/v1/pools/p", "ready") and os.path.exists(place / "volumes" / f"{uid}.qcow2")
    assert "v" in [v["name"] for v in copy.ask("GET", "/v1/volumes")["items"]]
    # Somebody gives it away: then it is the other's, and the first one stands back.
    a.viv("rm", "-f", "c")
    (place / ".viv-pool.host").unlink()
    end = time.monotonic() + 60
    while not (place / ".viv-pool.host").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    owner, other = (a, copy) if a.data in (place / ".viv-pool.host").read_text() else (copy, a)
    other.wait("/v1/pools/p", "gone")
    owner.wait("/v1/pools/p", "ready")


def test_locks_keep_two_machines_from_one_disk_whatever_was_removed(two, tmp_path, guest):  # noqa: F811
    place = tmp_path / "shared"
    place.mkdir(mode=0o755)
    a = two()
    a.viv("pool", "create", "p", "--path", str(place))
    for name, kind in (("v", "qcow2"), ("r", "raw")):
        a.viv("volume", "create", name, "8M", "--pool", "p", "--format", kind)
    a.ask("POST", "/v1/instances", {"name": "c", "spec": dict(guest, state="stopped", disks=[{"volume": "v"}, {"volume": "r"}])}, status=201)
    a.wait("/v1/instances/c", "stopped")
    a.kill()
    copy = two(a.data)
    a.start()
    a.ask("PATCH", "/v1/instances/c", {"spec": {"state": "running"}})
    a.wait("/v1/instances/c", "running")
    # The sign that it is used goes, and the daemon with it, but not the machine.
    a.kill()
    copy.kill()
    (place / ".viv-pool.host").unlink()
    copy.start()
    copy.wait("/v1/pools/p", "ready")
    copy.ask("PATCH", "/v1/instances/c", {"spec": {"state": "running"}})
    end = time.monotonic() + 60
    while "in use" not in json.dumps(status := copy.ask("GET", "/v1/instances/c")["status"]):
        assert time.monotonic() < end and status.get("state") != "running", status
        time.sleep(0.1)
    a.start()

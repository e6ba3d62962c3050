# SPDX-License-Identifier: Apache-2.0
"""The daemon: machines through its API and through `viv`, and what is left after kills."""
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import time

import groups
import pytest
import vivguest

BUILD = os.path.join(vivguest.ROOT, "build")
# Says that it is up and how often it has been started (once), answers lines, and powers off when asked to.
INIT = """
echo "guest-is-up"
while read -r line; do
    case $line in
        off) poweroff -f ;;
        *) echo "heard $line" ;;
    esac
done
"""


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("viv", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


class Node:
    """A daemon with directories of its own."""
    def __init__(self, folder):
        self.folder = str(folder)
        self.data, self.run = os.path.join(self.folder, "data"), os.path.join(self.folder, "run")
        self.socket = os.path.join(self.run, "api.sock")
        self.proc = None
        self.prefix = []                # what the daemon is started by, such as nsenter

    def start(self, *args):
        log = open(os.path.join(self.folder, "vivd.log"), "ab")
        self.proc = subprocess.Popen([*self.prefix, os.path.join(BUILD, "vivd"), "--data", self.data, "--run", self.run, *args],
                                     stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        end = time.monotonic() + 30
        while True:
            assert self.proc.poll() is None, self.log()
            assert time.monotonic() < end, "the daemon does not serve"
            try:
                # Only an answer tells: what a daemon before this was just starting may still hold its socket.
                self.ask("GET", "/v1/setup")
                return self
            except (OSError, http.client.HTTPException):
                time.sleep(0.005)

    def log(self):
        with open(os.path.join(self.folder, "vivd.log"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def kill(self, signo=signal.SIGKILL):
        self.proc.send_signal(signo)
        return self.proc.wait(30)

    def ask(self, method, path, body=None, status=None, headers=None):
        conn = Unix(self.socket)
        conn.request(method, path, None if body is None else json.dumps(body), headers or {})
        answer = conn.getresponse()
        text = answer.read()
        conn.close()
        doc = json.loads(text) if text and answer.getheader("content-type") == "application/json" else text
        assert answer.status == (status or 200), (method, path, answer.status, doc)
        return doc

    def wait(self, path, state, timeout=90):
        end = time.monotonic() + timeout
        while True:
            doc = self.ask("GET", path)
            if doc.get("status", {}).get("state") == state:
                return doc
            assert time.monotonic() < end, (doc, self.log())
            time.sleep(0.02)

    def wait_gone(self, path, timeout=60):
        end = time.monotonic() + timeout
        while "error" not in self.get_any(path):
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)

    def get_any(self, path):
        conn = Unix(self.socket)
        conn.request("GET", path)
        answer = conn.getresponse()
        doc = json.loads(answer.read())
        conn.close()
        return doc

    def viv(self, *args, status=0, stdin=None, timeout=120):
        done = subprocess.run([os.path.join(BUILD, "viv"), *args, "--socket", self.socket], capture_output=True, text=True,
                              input=stdin, timeout=timeout, check=False)
        assert done.returncode == status, (args, done.stdout, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def processes(self):
        """Numbers of the machines' processes, by what is on their command lines; not those that they have started, or were started beside them."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as f:
                    words = f.read().split("\0")
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                    comm, _, rest = f.read().rpartition(")")
            except OSError:
                continue
            state, parent = rest.split()[:2]
            if state != "Z" and not comm.endswith(("(viv-janitor", "(viv-keeper")) and words[0].endswith("viv-vmm") and any(w.startswith(self.run) for w in words):
                found[int(pid)] = int(parent)
        return [pid for pid, parent in found.items() if parent not in found]

    def end(self):
        if self.proc and self.proc.poll() is None:
            self.kill()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        groups.remove(self)


@pytest.fixture
def node(tmp_path):
    # Paths of sockets are short.
    folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o700)
    n = Node(folder)
    yield n.start()
    n.end()
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.fixture(scope="module")
def guest():
    folder = vivguest.kernel("bookworm")
    return {"kernel": os.path.join(folder, "vmlinuz"), "initrd": vivguest.initrd("bookworm", INIT, "node"), "memory": "128M",
            "engine": "bt", "cmdline": "console=ttyS0 quiet cryptomgr.notests", "networks": []}


def said(node, name, text):
    """How often, also to daemons before this one."""
    return node.ask("GET", f"/v1/instances/{name}/log").count(text.encode())


def log_has(node, name, text, timeout=60, more_than=0):
    end = time.monotonic() + timeout
    while said(node, name, text) <= more_than:
        assert time.monotonic() < end, node.ask("GET", f"/v1/instances/{name}/log")
        time.sleep(0.05)


def test_what_waits_for_the_next_start_is_told(node, guest):  # noqa: F811
    node.ask("POST", "/v1/instances", {"name": "a", "spec": dict(guest, cpus=1, shutdown_seconds=0)}, status=201)
    node.wait("/v1/instances/a", "running")
    said = lambda: [f["text"] for f in node.ask("GET", "/v1/instances/a/why")["facts"] if f["about"] == "pending"]
    waits = lambda: {p["field"]: (p["now"], p["then"]) for p in node.ask("GET", "/v1/instances/a")["status"].get("pending", [])}

    def until_waits(what):
        end = time.monotonic() + 30
        while waits() != what:
            assert time.monotonic() < end, (waits(), what)
            time.sleep(0.05)
    assert said() == [] and waits() == {}
    done = subprocess.run([os.path.join(BUILD, "viv"), "set", "a", "cpus=2", "labels.x=y", "restart=never", "--socket", node.socket],
                          capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "'cpus' is 1 until it is started the next time, and 2 then\n" and not done.stdout
    until_waits({"cpus": (1, 2)})
    node.ask("PATCH", "/v1/instances/a", {"spec": {"networks": [{"kind": "none"}], "cmdline": "quiet"}})
    until_waits({"cpus": (1, 2), "networks": ([], [{"kind": "none", "forwards": []}]), "cmdline": (guest["cmdline"], "quiet")})
    assert len(said()) == 3
    # Whoever looks after it.
    node.kill()
    node.start()
    end = time.monotonic() + 60
    while len(said()) < 3:      # until it has answered
        assert time.monotonic() < end, node.log()
        time.sleep(0.05)
    node.ask("PATCH", "/v1/instances/a", {"spec": {"networks": [], "cmdline": guest["cmdline"]}})
    until_waits({"cpus": (1, 2)})
    node.viv("restart", "a")
    until_waits({})
    node.wait("/v1/instances/a", "running")
    assert said() == []


def test_a_machine_lives_and_goes(node, guest):
    made = node.ask("POST", "/v1/instances", {"name": "a", "labels": {"tier": "web"}, "spec": guest}, status=201)
    assert made["uid"] and made["spec"]["cpus"] == 1 and made["spec"]["memory"] == 128 << 20
    seen = node.wait("/v1/instances/a", "running")
    assert seen["status"]["engine"] == "bt" and seen["revision"] == made["revision"]
    assert node.processes() == [seen["status"]["pid"]]
    log_has(node, "a", "guest-is-up")
    assert "guest-is-up" in node.viv("console", "a", stdin="hello\n")
    log_has(node, "a", "heard hello")
    node.ask("PATCH", "/v1/instances/a", {"spec": {"state": "paused"}})
    node.wait("/v1/instances/a", "paused")
    node.ask("PATCH", "/v1/instances/a", {"spec": {"state": "running"}})
    node.wait("/v1/instances/a", "running")
    assert node.ask("GET", "/v1/instances/a/stats")["cpus"]
    assert [i["name"] for i in node.ask("GET", "/v1/instances?labels=tier=web")["items"]] == ["a"]
    assert node.ask("GET", "/v1/instances?labels=tier=db")["items"] == []
    node.ask("DELETE", "/v1/instances/a", status=202)
    node.wait_gone("/v1/instances/a")
    assert node.processes() == []
    assert os.listdir(os.path.join(node.data, "instances")) == [] and os.listdir(os.path.join(node.run, "i")) == []


def test_a_guest_that_powers_off_stays_off_until_it_is_started(node, guest):
    node.ask("POST", "/v1/instances", {"name": "a", "spec": guest}, status=201)
    node.wait("/v1/instances/a", "running")
    log_has(node, "a", "guest-is-up")
    node.viv("console", "a", stdin="off\n")
    assert node.wait("/v1/instances/a", "stopped")["status"]["reason"] == "power off"
    node.kill()
    node.start()
    time.sleep(0.5)
    assert node.ask("GET", "/v1/instances/a")["status"]["state"] == "stopped"
    node.viv("start", "a")
    assert node.processes() == [node.wait("/v1/instances/a", "running")["status"]["pid"]]


def test_what_ends_while_no_daemon_looks(node, guest):
    """Who powers off stays off; who is killed comes back if its policy says so; and after the host has booted all do."""
    for name, policy in (("off", "on-failure"), ("again", "always"), ("dies", "on-failure"), ("never", "never")):
        node.ask("POST", "/v1/instances", {"name": name, "spec": dict(guest, restart=policy)}, status=201)
    pids = {name: node.wait(f"/v1/instances/{name}", "running")["status"]["pid"] for name in ("off", "again", "dies", "never")}
    for name in pids:
        log_has(node, name, "guest-is-up")
    where = {name: os.path.join(node.run, "i", node.ask("GET", f"/v1/instances/{name}")["uid"]) for name in pids}

    def meanwhile():
        for name in ("off", "again"):
            with socket.socket(socket.AF_UNIX) as console:
                console.connect(os.path.join(where[name], "console"))
                console.sendall(b"off\n")
        for name in ("dies", "never"):
            os.kill(pids[name], signal.SIGKILL)
        end = time.monotonic() + 60
        while node.processes():
            assert time.monotonic() < end
            time.sleep(0.02)
    node.kill()
    meanwhile()
    node.start()
    assert node.wait("/v1/instances/off", "stopped")["status"]["reason"] == "power off"
    assert "ended" in node.wait("/v1/instances/never", "failed")["status"]["reason"]
    for name in ("again", "dies"):
        assert node.wait(f"/v1/instances/{name}", "running")["status"]["pid"] != pids[name]
    node.kill()
    node.start()
    time.sleep(0.5)
    assert [node.ask("GET", f"/v1/instances/{n}")["status"]["state"] for n in ("off", "never")] == ["stopped", "failed"]
    for name in ("off", "never"):
        node.viv("start", name)
    for name in pids:
        node.wait(f"/v1/instances/{name}", "running")
    # The host has another boot: nothing has ended by itself.
    node.kill()
    for pid in node.processes():
        os.kill(pid, signal.SIGKILL)
    with open(os.path.join(node.run, "boot"), "w", encoding="ascii") as f:
        f.write("00000000-0000-0000-0000-000000000000\n")
    while node.processes():
        time.sleep(0.02)
    node.start()
    for name in pids:
        node.wait(f"/v1/instances/{name}", "running")


def test_what_a_guest_has_said_outlives_the_daemon(node, guest):
    node.ask("POST", "/v1/instances", {"name": "a", "spec": guest}, status=201)
    node.ask("POST", "/v1/instances", {"name": "silent", "spec": dict(guest, state="stopped")}, status=201)
    log_has(node, "a", "guest-is-up")
    node.viv("console", "a", stdin="echo first-word\n")
    log_has(node, "a", "first-word")
    before = node.ask("GET", "/v1/instances/a/log")
    time.sleep(0.5)             # a thread of its own writes the file
    for state in ("running", "stopped"):
        node.kill()
        node.start()
        assert node.ask("GET", "/v1/instances/a/log").startswith(before)
        assert node.ask("GET", "/v1/instances/silent/log") == b""
        node.wait("/v1/instances/a", state)
        assert node.ask("GET", "/v1/instances/a/log").count(b"guest-is-up") == 1
        if state == "running":
            node.viv("console", "a", stdin="echo second-word\n")
            log_has(node, "a", "second-word")
            node.ask("PATCH", "/v1/instances/a", {"spec": {"shutdown_seconds": 0}})
            node.viv("stop", "a")
            assert "second-word" in node.viv("logs", "a")


def test_who_stops_and_starts_gets_the_last(node, guest):
    """A machine that is cut off while it begins, and asked to run again before its process has gone, runs."""
    dice = random.Random(12)
    node.ask("POST", "/v1/instances", {"name": "a", "spec": guest}, status=201)
    for _ in range(20):
        for _ in range(5):
            node.ask("PATCH", "/v1/instances/a", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
            time.sleep(dice.random() * 0.004)
            node.ask("PATCH", "/v1/instances/a", {"spec": {"state": "running"}})
            time.sleep(dice.random() * 0.03)
        node.wait("/v1/instances/a", "running")


def test_the_daemon_may_be_killed_at_any_moment(node, guest):
    """Machines go on, none is started twice, and what was acknowledged is there."""
    dice = random.Random(20261121)
    pids = {}
    for name in ("a", "b"):
        node.ask("POST", "/v1/instances", {"name": name, "spec": guest}, status=201)
    for _ in range(25):
        time.sleep(dice.random() * 0.15)
        node.kill(dice.choice([signal.SIGKILL, signal.SIGTERM]))
        node.start()
    for name in ("a", "b"):
        pids[name] = node.wait(f"/v1/instances/{name}", "running")["status"]["pid"]
    assert sorted(node.processes()) == sorted(pids.values())
    node.kill()
    node.start()
    for name, pid in pids.items():
        assert node.wait(f"/v1/instances/{name}", "running")["status"]["pid"] == pid
        log_has(node, name, "") # its console is served again
    node.ask("DELETE", "/v1/instances/a", status=202)
    node.kill()
    node.start()
    node.wait_gone("/v1/instances/a")
    assert node.processes() == [pids["b"]]


def test_a_machine_that_is_killed_comes_back(node, guest):
    node.ask("POST", "/v1/instances", {"name": "a", "spec": guest}, status=201)
    first = node.wait("/v1/instances/a", "running")["status"]["pid"]
    os.kill(first, signal.SIGKILL)
    end = time.monotonic() + 60
    while True:
        status = node.ask("GET", "/v1/instances/a")["status"]
        if status["state"] == "running" and status["pid"] != first:
            break
        assert time.monotonic() < end, status
        time.sleep(0.02)
    node.ask("PATCH", "/v1/instances/a", {"spec": {"restart": "never"}})
    os.kill(status["pid"], signal.SIGKILL)
    failed = node.wait("/v1/instances/a", "failed")["status"]
    assert "signal 9" in failed["reason"] and "pid" not in failed
    assert node.processes() == []


def test_what_cannot_be_is_refused_with_the_field(node, guest):
    def refused(status, *args, **kwargs):
        return node.ask(*args, status=status, **kwargs)["error"]

    bad = refused(400, "POST", "/v1/instances", {"name": "a", "spec": {**guest, "cpus": 0}})
    assert bad["field"] == "spec.cpus"
    assert refused(400, "POST", "/v1/instances", {"name": "A b", "spec": guest})["field"] == "name"
    assert refused(400, "POST", "/v1/instances", {"name": "a", "spec": {}})["field"] == "spec.image"
    assert "no image 'x'" in refused(400, "POST", "/v1/instances", {"name": "a", "spec": {"image": "x"}})["message"]
    assert "volume" in refused(400, "POST", "/v1/instances", {"name": "a", "spec": {**guest, "disks": [{"volume": "v"}]}})["message"]
    assert refused(404, "GET", "/v1/instances/none")["code"] == "not_found"
    node.ask("POST", "/v1/instances?dry-run=1", {"name": "a", "spec": guest})
    assert node.ask("GET", "/v1/instances")["items"] == []
    made = node.ask("POST", "/v1/instances", {"name": "a", "spec": {**guest, "state": "stopped"}}, status=201)
    assert refused(409, "POST", "/v1/instances", {"name": "a", "spec": guest})["code"] == "exists"
    stale = {"if-match": f'"{made["revision"] - 1}"'}
    assert refused(412, "PATCH", "/v1/instances/a", {"spec": {"cpus": 2}}, headers=stale)["code"] == "changed"
    fresh = {"if-match": f'"{made["revision"]}"'}
    assert node.ask("PATCH", "/v1/instances/a", {"spec": {"cpus": 2}}, headers=fresh)["spec"]["cpus"] == 2
    assert refused(400, "PATCH", "/v1/instances/a", {"uid": "x"})["field"] == "uid"
    assert refused(409, "POST", "/v1/instances/a/reset")["code"] == "busy"


def test_volumes_and_who_has_them(node, guest):
    node.ask("POST", "/v1/volumes", {"name": "v", "spec": {"size": "64M"}}, status=201)
    node.wait("/v1/volumes/v", "ready")
    node.ask("POST", "/v1/instances", {"name": "a", "spec": {**guest, "disks": [{"volume": "v"}]}}, status=201)
    node.wait("/v1/instances/a", "running")
    assert node.ask("DELETE", "/v1/volumes/v", status=409)["error"]["code"] == "busy"
    assert node.ask("PATCH", "/v1/volumes/v", {"spec": {"size": "32M"}}, status=400)["error"]["field"] == "spec.size"
    node.viv("rm", "-f", "a")
    node.ask("PATCH", "/v1/volumes/v", {"spec": {"size": "128M"}})
    end = time.monotonic() + 30
    while node.ask("GET", "/v1/volumes/v")["status"].get("size") != 128 << 20:
        assert time.monotonic() < end
        time.sleep(0.02)
    node.viv("volume", "rm", "v")
    assert os.listdir(os.path.join(node.data, "volumes")) == []


def test_a_volume_grows_while_its_machine_runs(node, guest):
    """The guest sees it at once, and snapshots go on being possible."""
    looks = "while :; do echo sectors $(cat /sys/class/block/vda/size); sleep 0.2; done"
    node.ask("POST", "/v1/volumes", {"name": "v", "spec": {"size": "16M"}}, status=201)
    spec = dict(guest, initrd=vivguest.initrd("bookworm", looks, "node-sizes"), disks=[{"volume": "v"}])
    node.ask("POST", "/v1/instances", {"name": "a", "spec": spec}, status=201)
    log_has(node, "a", f"sectors {16 << 11}")
    assert json.loads(node.viv("volume", "grow", "v", "48M", "--json"))["status"]["size"] == 48 << 20
    log_has(node, "a", f"sectors {48 << 11}")
    assert "does not shrink" in node.viv("volume", "grow", "v", "32M", status=1)
    node.wait("/v1/volumes/v", "ready")
    node.viv("snapshot", "create", "a", "s")
    node.wait("/v1/instances/a/snapshots/s", "ready")


def test_commands_for_people(node, guest):
    node.ask("POST", "/v1/instances", {"name": "a", "spec": guest}, status=201)
    node.wait("/v1/instances/a", "running")
    assert "running" in node.viv("ls") and "128 MiB" in node.viv("ls")
    assert json.loads(node.viv("show", "a"))["name"] == "a"
    node.viv("set", "a", "memory=256M", "labels.tier=web")
    assert json.loads(node.viv("ls", "--json", "--selector", "tier=web"))[0]["spec"]["memory"] == 256 << 20
    assert "no field 'x'" in node.viv("set", "a", "x=1", status=1)
    assert "is running" in node.viv("rm", "a", status=4)
    node.viv("pause", "a")
    node.viv("start", "a")
    node.viv("set", "a", "shutdown_seconds=0")
    node.viv("stop", "a")
    assert "stopped" in node.viv("ls")
    node.viv("rm", "a")
    assert "no instance 'a'" in node.viv("start", "a", status=7)
    assert "no image 'nope'" in node.viv("run", "nope", status=7)


def test_images_are_copied_from_any_format_and_kept_while_used(node, tmp_path):
    vmdk = str(tmp_path / "disk.vmdk")
    subprocess.run([os.path.join(BUILD, "viv"), "disk", "create", vmdk, "64M"], check=True, stdout=subprocess.DEVNULL)
    node.viv("image", "import", vmdk, "foreign")
    os.unlink(vmdk)
    seen = node.ask("GET", "/v1/images/foreign")["status"]
    assert seen["state"] == "ready" and not seen["boots_directly"]
    node.ask("POST", "/v1/instances", {"name": "a", "spec": {"image": "foreign", "state": "stopped"}}, status=201)
    assert "is a layer over it" in node.viv("image", "rm", "foreign", status=4)
    node.viv("rm", "a")
    node.viv("image", "rm", "foreign")
    assert os.listdir(os.path.join(node.data, "images")) == []
    broken = tmp_path / "broken.qcow2"
    subprocess.run([os.path.join(BUILD, "viv"), "disk", "create", broken, "64M"], check=True, stdout=subprocess.DEVNULL)
    with open(broken, "r+b") as f:
        f.seek(40)
        f.write(b"\xff" * 8)   # where its first table is
    assert "could not be made" in node.viv("image", "import", str(broken), "broken", status=1)
    assert "cannot open" in node.viv("image", "import", str(tmp_path / "none"), "none", status=7)


def test_nothing_is_made_of_an_image_that_goes(node, tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\ntrap '' TERM\nsleep 3\n")
    tool.chmod(0o755)
    node.kill()
    node.start("--image-tool", str(tool))
    node.ask("POST", "/v1/images", {"name": "slow", "spec": {"source": {"build": "debian"}}}, status=201)
    node.wait("/v1/images/slow", "making")
    node.ask("DELETE", "/v1/images/slow", status=202)
    bad = node.ask("POST", "/v1/instances", {"name": "a", "spec": {"image": "slow"}}, status=400)["error"]
    assert bad["field"] == "spec.image" and "no image 'slow'" in bad["message"]
    node.wait_gone("/v1/images/slow")
    assert os.listdir(os.path.join(node.data, "images")) == []


def test_what_is_wrong_is_told_before_an_image_is_made(node, tmp_path):
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\ntouch {tmp_path}/made\nexit 1\n")
    tool.chmod(0o755)
    node.kill()
    node.start("--image-tool", str(tool))
    for words, why, status in ((["--name", "bad name"], "'bad name' cannot be a name", 1), (["-m", "10"], "spec.memory: 10 is not between", 1),
                               (["-p", "99999:1"], "host port '99999' is not a number", 1), (["-p", "8080"], "'8080' is no HOSTPORT:PORT", 1),
                               (["--ssh-key", "/nowhere"], "cannot read '/nowhere'", 7)):
        assert why in node.viv("run", "-d", *words, "debian", status=status)
    assert node.viv("image", "ls", "--json") == "[]\n" and not (tmp_path / "made").exists()
    for kind, spec in (("instances", {"kernel": "/dev/null", "pool": "nowhere"}), ("volumes", {"size": 1 << 20, "pool": "nowhere"})):
        error = node.ask("POST", f"/v1/{kind}", {"name": "a", "spec": spec}, status=400)["error"]
        assert (error["field"], error["message"]) == ("spec.pool", "there is no pool 'nowhere'; 'viv pool ls' lists those that are there")
    assert "it could not be made" in node.viv("run", "-d", "debian", status=1)
    assert (tmp_path / "made").exists()


def test_a_debian_from_its_image_to_its_login(node, debian, tmp_path):
    """`viv run debian`; that the image is made of packages is what scripts/guest-image has done before."""
    tool = tmp_path / "tool"
    tool.write_text(f'#!/bin/sh\ncd "$1" && cp --sparse=always {debian}/root.img {debian}/vmlinuz {debian}/initrd.img . && touch stamp\n')
    tool.chmod(0o755)
    node.kill()
    node.start("--image-tool", str(tool))
    key, data = tmp_path / "id.pub", tmp_path / "data"
    key.write_text("ssh-ed25519 AAAAexample me\n")
    data.write_text("#cloud-config\nwrite_files:\n- path: /etc/told\n  content: |\n    two\n    lines\n"
                    "runcmd:\n- echo ran >>/root/ran\npackages: [x]\n")
    assert node.viv("run", "--name", "web", "--engine", "bt", "-d", "--ssh-key", str(key), "--user-data", str(data), "debian",
                    timeout=300) == "web\n"
    log_has(node, "web", "web login:", timeout=300)
    node.viv("console", "web", stdin="root\n")
    log_has(node, "web", "root@web", timeout=120)
    node.viv("console", "web", stdin="until systemctl -q is-active guest-init-late; do sleep 0.2; done\n"
             "cat /root/.ssh/authorized_keys; echo $(cat /etc/told /root/ran) as t''old\n"
             "journalctl -o cat -u guest-init-early | grep -o 'packages. of the user data needs .*'\n")
    log_has(node, "web", "packages' of the user data needs the package cloud-init", timeout=120)
    log_has(node, "web", "AAAAexample me", timeout=120)
    log_has(node, "web", "two lines ran as told", timeout=120)
    node.viv("console", "web", stdin="echo kept > /root/kept && sync && echo writ''ten\n")
    log_has(node, "web", "written", timeout=120)
    node.viv("stop", "web", timeout=200)
    assert node.ask("GET", "/v1/instances/web")["status"]["reason"] == "power off"
    node.viv("start", "web")
    # The log still has the prompt of the first time.
    end = time.monotonic() + 300
    while node.ask("GET", "/v1/instances/web/log").count(b"web login:") < 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    node.viv("console", "web", stdin="root\necho $(cat /root/kept) and $(wc -l </root/ran) t''ime\n")
    log_has(node, "web", "kept and 1 time", timeout=120)
    node.viv("rm", "-f", "web")


@pytest.fixture
def with_disk(node, guest):
    """An instance whose disk holds what was typed into it last; what its disk holds."""
    node.ask("POST", "/v1/volumes", {"name": "data", "spec": {"size": "8M"}}, status=201)
    node.wait("/v1/volumes/data", "ready")
    init = vivguest.initrd("bookworm", """
echo "holds $(dd if=/dev/vda bs=16 count=1 2>/dev/null | tr -d '\\0')"
while read -r word; do
    [ "$word" = off ] && poweroff -f
    printf '%-16s' "$word" | dd of=/dev/vda bs=16 conv=notrunc,fsync 2>/dev/null
    echo "written $word"
done
""", "node-disk")
    spec = dict(guest, initrd=init, disks=[{"volume": "data"}])
    node.ask("POST", "/v1/instances", {"name": "a", "spec": spec}, status=201)
    node.wait("/v1/instances/a", "running")
    log_has(node, "a", "holds")

    def write(word):
        node.viv("console", "a", stdin=word + "\n")
        log_has(node, "a", f"written {word}")
    return write


def test_a_disk_goes_back_to_its_snapshot(node, with_disk):
    with_disk("first")
    node.viv("snapshot", "create", "a", "running")
    with_disk("second")
    pid = node.ask("GET", "/v1/instances/a")["status"]["pid"]
    node.viv("snapshot", "revert", "a", "running")
    assert node.wait("/v1/instances/a", "running")["status"]["pid"] != pid
    log_has(node, "a", "holds first")
    # Of one that is off, with the daemon killed at once after each request.
    held = said(node, "a", "holds first")
    node.viv("stop", "a")
    node.ask("POST", "/v1/instances/a/snapshots", {"name": "off", "spec": {}}, status=201)
    node.kill()
    node.start()
    node.wait("/v1/instances/a/snapshots/off", "ready")
    node.viv("start", "a")
    log_has(node, "a", "holds first", more_than=held)
    held = said(node, "a", "holds first")
    with_disk("third")
    task = node.ask("POST", "/v1/instances/a/snapshots/off/revert", status=202)
    node.kill()
    node.start()
    done = node.wait(f"/v1/tasks/{task['name']}", "done")
    assert done["operation"] == "revertSnapshot" and done["status"]["log"]
    node.wait("/v1/instances/a", "running")
    log_has(node, "a", "holds first", more_than=held)
    assert [s["name"] for s in json.loads(node.viv("snapshot", "ls", "a", "--json"))] == ["off", "running"]
    node.viv("snapshot", "rm", "a", "running")
    path = os.path.join(node.data, "volumes", os.listdir(os.path.join(node.data, "volumes"))[0])
    listed = subprocess.run([os.path.join(BUILD, "viv"), "disk", "snapshot", "list", path, "--json"], capture_output=True,
                            text=True, check=False)
    assert len(json.loads(listed.stdout)) == 1, listed
    # They go with their instance.
    node.viv("rm", "--force", "a")
    assert node.get_any("/v1/instances/a/snapshots/off")["error"]["code"] == "not_found"


def test_a_clone_is_another_machine(node, tmp_path):
    raw = str(tmp_path / "disk.raw")
    with open(raw, "wb") as f:
        f.write(os.urandom(1 << 20))
    node.viv("image", "import", raw, "base")
    node.ask("POST", "/v1/instances", {"name": "a", "spec": {"image": "base", "state": "stopped", "engine": "interp"}}, status=201)
    node.ask("PATCH", "/v1/instances/a", {"spec": {"state": "running", "networks": [
        {"kind": "none", "mac": "52:54:00:00:00:01"}]}})
    node.wait("/v1/instances/a", "running")
    busy = node.ask("POST", "/v1/instances/a/clone", {"name": "b", "linked": True}, status=409)
    assert "stop it first" in busy["error"]["message"]
    node.ask("PATCH", "/v1/instances/a", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
    node.wait("/v1/instances/a", "stopped")
    node.viv("clone", "a", "b")
    b = node.wait("/v1/instances/b", "stopped")
    assert "mac" not in b["spec"]["networks"][0] and b["spec"]["image"] == "base"
    disks = os.path.join(node.data, "instances")
    sizes = {os.path.getsize(os.path.join(disks, uid, "root.qcow2")) for uid in os.listdir(disks)}
    assert len(os.listdir(disks)) == 2 and len(sizes) == 1
    assert node.ask("POST", "/v1/instances/a/clone", {"name": "b"}, status=409)["error"]["field"] == "name"
    task = json.loads(node.viv("task", "ls", "--json"))[0]
    assert task["status"]["result"] == {"instance": "b"} and task["status"]["state"] == "done"
    assert node.ask("POST", f"/v1/tasks/{task['name']}/cancel", status=409)["error"]["code"] == "busy"
    node.ask("DELETE", f"/v1/tasks/{task['name']}", status=202)
    node.wait_gone(f"/v1/tasks/{task['name']}")


def test_lists_are_what_is_asked_for(node):
    for i, size in enumerate(("1M", "3M", "2M")):
        node.ask("POST", "/v1/volumes", {"name": f"v{i}", "spec": {"size": size}, "labels": {"n": str(i % 2)}}, status=201)
        node.wait(f"/v1/volumes/v{i}", "ready")

    def names(query):
        return [item["name"] for item in node.ask("GET", f"/v1/volumes?{query}")["items"]]
    assert names("sort=-spec.size") == ["v1", "v2", "v0"]
    assert names("filter=spec.size>1048576,status.state=ready") == ["v1", "v2"]
    assert names("labels=n=0&sort=-name&limit=1") == ["v2"] and names("sort=name&offset=2") == ["v2"]
    page = node.ask("GET", "/v1/volumes?fields=name,status.state&limit=1")
    assert page["items"] == [{"name": "v0", "status": {"state": "ready"}}] and page["total"] == 3
    assert "is no filter" in node.ask("GET", "/v1/volumes?filter=x", status=400)["error"]["message"]


def test_what_is_sent_twice_with_a_key_is_done_once(node):
    volume = {"name": "v", "spec": {"size": "1M"}}
    key = {"Idempotency-Key": "one"}
    made = node.ask("POST", "/v1/volumes", volume, status=201, headers=key)
    node.kill()
    node.start()
    assert node.ask("POST", "/v1/volumes", volume, status=201, headers=key)["uid"] == made["uid"]
    assert node.ask("POST", "/v1/volumes", volume, status=409)["error"]["field"] == "name"
    other = node.ask("POST", "/v1/volumes", dict(volume, name="w"), status=409, headers=key)
    assert "another request" in other["error"]["message"]

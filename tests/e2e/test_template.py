# SPDX-License-Identifier: Apache-2.0
"""Machines of images that are kept warm, and what an ordinary user sees of `viv run debian`: the latter is recorded, in
build/test-logs/run-debian.cast (asciicast, version 2)."""
import contextlib
import json
import os
import pty
import random
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
import vivguest
from test_node import BUILD, log_has, node   # noqa: F401, pylint: disable=unused-import

PATIENCE_S, BOOT_S = 400, 1200
USER = 54321            # nobody's; tests that are run by root become it


def copying_tool(folder, debian):
    """What builds an image for the daemon: as scripts/guest-image has done before."""
    tool = os.path.join(folder, "guest-image")
    with open(tool, "w", encoding="utf-8") as f:
        f.write(f'#!/bin/sh\ncd "$1" && cp --sparse=always {debian}/root.img {debian}/vmlinuz {debian}/initrd.img . && touch stamp\n')
    os.chmod(tool, 0o755)
    return tool


def until(what, seconds=PATIENCE_S):
    end = time.monotonic() + seconds
    while not (seen := what()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return seen


# --- what is kept ---

class Warm:
    """A daemon with the image debian, and a template of it."""
    def __init__(self, node, debian):       # noqa: F811
        self.node = node
        self.folder = os.path.join(node.data, "templates")
        self.tool = copying_tool(node.folder, debian)
        self.restart()
        node.ask("POST", "/v1/images", {"name": "debian", "spec": {"source": {"build": "debian"}}}, status=201)
        node.wait("/v1/images/debian", "ready")

    def restart(self, *args):
        self.node.kill()
        self.node.start("--image-tool", self.tool, *args)

    def templates(self):
        return self.node.ask("GET", "/v1/images/debian")["status"]["templates"]

    def run(self, name, **spec):
        return self.node.ask("POST", "/v1/instances", {"name": name, "spec": {"image": "debian", "engine": "bt", "template": "auto",
                                                                              "shutdown_seconds": 0, **spec}}, status=201)

    def status(self, name):
        return self.node.ask("GET", f"/v1/instances/{name}").get("status", {})

    def start(self, name):
        return self.status(name).get("start", "")

    def inside(self, name, line):
        told = subprocess.run([os.path.join(BUILD, "viv"), "exec", "--socket", self.node.socket, name, "--", "sh", "-c", line],
                              capture_output=True, text=True, timeout=120, check=True)
        return told.stdout.split()


@pytest.mark.long
def test_templates_are_made_used_and_dropped(node, debian, tmp_path):   # noqa: F811
    dice, warm = random.Random(20261122), Warm(node, debian)
    # The daemon is killed while one is made: the next begins anew, and no machine of before is left.
    task = node.ask("POST", "/v1/images/debian/warm", {"engine": "bt"}, status=202)["name"]
    assert "makes it already" in node.ask("POST", "/v1/images/debian/warm", {"engine": "bt"}, status=409)["error"]["message"]
    for _ in range(4):
        time.sleep(dice.random() * 2)
        warm.restart()
    node.wait(f"/v1/tasks/{task}", "done", PATIENCE_S)
    (template,) = warm.templates()
    assert os.listdir(warm.folder) == [template["uid"]] and template["bytes"] > 1 << 20
    until(lambda: not node.processes())
    assert "already" in node.ask("POST", "/v1/images/debian/warm", {"engine": "bt"}, status=409)["error"]["message"]
    saved = str(tmp_path / "saved")
    subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", os.path.join(warm.folder, template["uid"]), saved], check=True)

    # Instances begin as it, and are others; the daemon is killed while one does.
    warm.run("a", ssh_keys=["ssh-ed25519 AAAAof-a me"])
    for _ in range(3):
        time.sleep(dice.random() * 0.3)
        warm.restart()
    warm.run("b")
    told = {}
    for name in "ab":
        node.wait(f"/v1/instances/{name}", "running", PATIENCE_S)
        assert "began as the template" in warm.start(name) and "began as the template" in node.viv("why", name)
        log_has(node, name, f"{name} login:", PATIENCE_S)
        told[name] = until(lambda n=name: warm.inside(n, "hostname; cat /etc/machine-id /proc/sys/kernel/random/uuid; cd /sys/class/net;"
                                                         "cat e*/address || true; date +%s"))
    assert [told[n][0] for n in "ab"] == ["a", "b"]
    assert all(len(told[n][1]) == 32 and told["a"][k] != told["b"][k] for n in "ab" for k in (1, 2))
    assert abs(int(told["b"][-1]) - time.time()) < 120
    # The driver of the network card begins anew meanwhile: for a moment there is none.
    addresses = "cat /sys/class/net/e*/address || true"
    until(lambda: (a := warm.inside("a", addresses)) and (b := warm.inside("b", addresses)) and a != b)
    assert "AAAAof-a" in warm.inside("a", "cat /root/.ssh/authorized_keys")
    assert "none" in warm.inside("b", "cat /root/.ssh/authorized_keys 2>/dev/null || echo none")
    for name in "ab":
        files = os.listdir(os.path.join(node.data, "instances", node.ask("GET", f"/v1/instances/{name}")["uid"]))
        assert not {"fork", "copy.memory"} & set(files)

    # Of what a template has not seen there is none: it boots, and says why.
    for name, spec, why in (("c", {"user_data": "#!/bin/sh\n"}, "user_data"), ("d", {"cmdline": "console=ttyS0"}, "cmdline"),
                            ("e", {"networks": []}, "network"), ("f", {"agent": False}, "agent"), ("g", {"template": "none"}, "")):
        warm.run(name, **spec)
        until(lambda n=name: "pid" in warm.status(n))
        assert why in warm.start(name) and "template of its image that" not in warm.start(name)
        node.viv("rm", "-f", name)
    assert "cannot be changed" in node.ask("PATCH", "/v1/instances/a", {"spec": {"template": "none"}}, status=400)["error"]["message"]

    # One that ends before it knows who it is is made anew, and boots.
    uid = warm.run("h")["uid"]
    with contextlib.suppress(ProcessLookupError):       # it may have another by now
        os.kill(until(lambda: warm.status("h").get("pid")), signal.SIGKILL)
    if os.path.exists(os.path.join(node.data, "instances", uid, "fork")):
        until(lambda: "instead" in warm.start("h") or warm.status("h")["state"] == "running")
    node.viv("rm", "-f", "h")

    # They go when another program runs machines, or when somebody says so; who began as one goes on.
    other = os.path.join(node.folder, "viv-vmm")
    shutil.copy(os.path.join(BUILD, "viv-vmm"), other)
    warm.restart("--vmm", other)
    until(lambda: warm.templates() == [])
    assert os.listdir(warm.folder) == []
    node.kill()
    subprocess.run(["mv", saved, os.path.join(warm.folder, template["uid"])], check=True)
    warm.restart()
    until(lambda: [t["uid"] for t in warm.templates()] == [template["uid"]])
    node.viv("image", "cool", "debian")
    until(lambda: os.listdir(warm.folder) == [] and warm.templates() == [])
    assert warm.inside("a", "hostname") == ["a"]
    warm.restart("--templates", "0")
    assert "--templates 0" in node.ask("POST", "/v1/images/debian/warm", {}, status=422)["error"]["message"]
    node.viv("rm", "-f", "a", "b")


# --- what a user sees ---

class Recording:
    """What is typed and seen, as an asciicast."""
    def __init__(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.file = open(path, "w", encoding="utf-8")
        self.began = time.monotonic()
        self.file.write(json.dumps({"version": 2, "width": 100, "height": 30, "title": "viv run debian"}) + "\n")

    def add(self, text):
        self.file.write(json.dumps([round(time.monotonic() - self.began, 3), "o", text]) + "\n")
        self.file.flush()


class User:
    """An ordinary user with programs, a home and a daemon of its own."""
    def __init__(self, folder, debian):
        self.folder, self.bin = folder, os.path.join(folder, "bin")
        self.who = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
        os.makedirs(self.bin)
        for name in ("viv", "vivd", "viv-vmm"):
            shutil.copy(os.path.join(BUILD, name), self.bin)
        images = os.path.join(folder, "debian")
        os.mkdir(images)
        for name in ("root.img", "vmlinuz", "initrd.img"):
            subprocess.run(["cp", "--reflink=auto", "--sparse=always", os.path.join(debian, name), images], check=True)
        copying_tool(self.bin, images)
        self.env = {"PATH": f"{self.bin}:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": folder, "XDG_RUNTIME_DIR": os.path.join(folder, "run"), "TERM": "xterm"}
        os.mkdir(self.env["XDG_RUNTIME_DIR"], 0o700)
        if self.who:
            for path in (folder, self.env["XDG_RUNTIME_DIR"]):
                os.chown(path, USER, USER)
        self.tape = Recording(os.path.join(BUILD, "test-logs", "run-debian.cast"))

    def viv(self, *words):
        self.tape.add(f"$ viv {' '.join(words)}\r\n")
        done = subprocess.run([os.path.join(self.bin, "viv"), *words], env=self.env, capture_output=True, text=True, timeout=PATIENCE_S,
                              check=False, cwd=self.folder, stdin=subprocess.DEVNULL, **self.who)
        self.tape.add((done.stdout + done.stderr).replace("\n", "\r\n"))
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def talk(self, words, steps):
        """`viv WORDS` on a terminal: for each of STEPS wait until something is seen, and type something."""
        self.tape.add(f"$ viv {' '.join(words)}\r\n")
        ours, theirs = pty.openpty()
        proc = subprocess.Popen([os.path.join(self.bin, "viv"), *words], env=self.env, stdin=theirs, stdout=theirs, stderr=theirs,
                                start_new_session=True, cwd=self.folder, **self.who)
        os.close(theirs)
        seen, end = b"", time.monotonic() + PATIENCE_S
        try:
            for text, typed in steps:
                while text.encode() not in seen:
                    assert time.monotonic() < end and proc.poll() is None, (text, seen[-2000:])
                    if select.select([ours], [], [], 0.5)[0]:
                        part = os.read(ours, 65536)
                        seen += part
                        self.tape.add(part.decode(errors="replace"))
                seen = b""
                os.write(ours, typed.encode())
            proc.wait(60)
        finally:
            if proc.poll() is None:
                proc.kill()
            os.close(ours)

    def end(self):
        """Everything that runs from its folder of programs is its."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/exe").startswith(self.bin + "/"):
                    os.kill(int(pid), signal.SIGKILL)
            except OSError:
                continue


@pytest.fixture
def user(debian):
    folder = f"/tmp/viv-user-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o755)
    u = User(folder, debian)
    yield u
    u.end()
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.fixture
def greeter():
    """The port of the host's loopback where everybody is greeted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        def greet():
            while True:
                try:
                    conn, _ = server.accept()
                except OSError:
                    return
                with conn:
                    conn.sendall(b"greetings from outside\n")
        threading.Thread(target=greet, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.long
def test_an_ordinary_user_runs_debian(user, greeter):
    leave = "\x01x"
    user.talk(["run", "--name", "web", "--engine", "bt", "debian"],
              [("web login:", "root\n"), ("root@web", "ls /\n"), ("vmlinuz", f"nc -w 60 -d $(ip -4 route show default | cut -d' ' -f3) {greeter}\n"),
               ("greetings from outside", leave)])
    assert "web" in user.viv("exec", "web", "--", "cat", "/etc/hostname")
    with open(os.path.join(user.folder, "letter"), "w", encoding="utf-8") as f:
        f.write("dear machine\n")
    user.viv("cp", "letter", "web:/root/letter")
    assert user.viv("exec", "web", "--", "cat", "/root/letter") == "dear machine\n"
    user.viv("cp", "web:/etc/os-release", "./")
    with open(os.path.join(user.folder, "os-release"), encoding="utf-8") as f:
        assert "bookworm" in f.read()
    assert "one is made for the next" in user.viv("why", "web")
    # What was made meanwhile is what the next one begins as.
    user.viv("task", "wait", next(t["name"] for t in json.loads(user.viv("task", "ls", "--json")) if t["operation"] == "warmImage"))
    assert json.loads(user.viv("image", "show", "debian"))["status"]["templates"]
    user.talk(["run", "--name", "shop", "--engine", "bt", "debian"],
              [("shop login:", "root\n"), ("root@shop", "cat /etc/hostname /etc/machine-id\n"), ("shop\r\n", leave)])
    assert "began as the template" in user.viv("why", "shop")
    ids = [user.viv("exec", name, "--", "cat", "/etc/machine-id") for name in ("web", "shop")]
    assert ids[0] != ids[1]
    until(lambda: "greetings" in user.viv("exec", "shop", "--", "sh", "-c",
                                          f"nc -w 20 -d $(ip -4 route show default | cut -d' ' -f3) {greeter} || true"))
    user.viv("rename", "shop", "store")
    user.viv("rm", "-f", "web", "store")


@pytest.mark.long
def test_what_others_know_a_machine_by_is_its_own(node):   # noqa: F811
    """Host keys of SSH, the machine-id, the name, randomness: of two that began as one template, of one that booted, and of a clone."""
    warm = Warm(node, vivguest.debian("debian-ssh", ("openssh-server",)))
    task = node.ask("POST", "/v1/images/debian/warm", {"engine": "bt"}, status=202)["name"]
    node.wait(f"/v1/tasks/{task}", "done", BOOT_S)
    facts = {"hostname": "hostname", "machine-id": "cat /etc/machine-id", "random": "head -c 16 /dev/urandom | od -An -tx1 | tr -d ' '",
             "seed": "cat /var/lib/systemd/random-seed 2>/dev/null | sha256sum", "dbus": "cat /var/lib/dbus/machine-id",
             "key": "cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub", "ecdsa": "cut -d' ' -f2 /etc/ssh/ssh_host_ecdsa_key.pub",
             # What sshd shows is what is in the file.
             "shown": "ssh-keyscan -t ed25519 127.0.0.1 2>/dev/null | cut -d' ' -f3", "rsa": "ls /etc/ssh | grep -c rsa_key || true"}
    told = {}
    warm.run("a", ssh_keys=["ssh-ed25519 AAAAof-a me"])
    warm.run("b")
    warm.run("c", template="none")
    for name in "abc":
        node.wait(f"/v1/instances/{name}", "running", BOOT_S)
        log_has(node, name, f"{name} login:", BOOT_S)
        assert ("began as the template" in warm.start(name)) == (name in "ab")
    node.viv("clone", "a", "d")
    node.viv("start", "d")
    log_has(node, "d", "d login:", BOOT_S)
    for name in "abcd":
        until(lambda n=name: warm.inside(n, "systemctl is-active ssh || true") == ["active"], BOOT_S)
        told[name] = {fact: (warm.inside(name, line) or [""])[0] for fact, line in facts.items()}
    assert [told[n]["hostname"] for n in "abcd"] == list("abcd"), told
    for name in "abcd":
        assert told[name]["key"] == told[name]["shown"] != "" and told[name]["rsa"] == "0", told
    for fact in ("key", "ecdsa", "random"):
        assert len({told[n][fact] for n in "abcd"}) == 4, (fact, told)
    for fact in ("machine-id", "dbus"):
        assert len({told[n][fact] for n in "abc"}) == 3, (fact, told)
    # What says nothing is not there; what is, is nobody else's.
    seeds = [told[n]["seed"] for n in "abc"]
    nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert all(s == nothing or seeds.count(s) == 1 for s in seeds), told
    # None of them is in the image.
    assert not [f for f in os.listdir(os.path.join(vivguest.GUESTS, "debian-ssh", "root/etc/ssh")) if f.startswith("ssh_host_")]

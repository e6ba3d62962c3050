# SPDX-License-Identifier: Apache-2.0
"""Pools: directories that come and go, fill up, and are refused."""
import json
import os
import random
import subprocess
import time

import pytest
from test_node import Node, guest, node  # noqa: F401


class Apart(Node):
    """A daemon whose mounts are its own, so that file systems come and go without anybody else seeing it."""
    def __init__(self, folder):
        super().__init__(folder)
        self.prefix = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
        self.place = os.path.join(self.folder, "place")
        os.mkdir(self.place, 0o755)

    def inside(self, *words):
        names = ["--mount"] if os.geteuid() == 0 else ["--user", "--mount", "--preserve-credentials"]
        subprocess.run(["nsenter", "-t", str(self.proc.pid), *names, *words], check=True, timeout=30)

    def mount(self, size="64M", at=None):
        self.inside("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", at or self.place)

    def put_aside(self):
        """The file system goes, and with it what is in it is out of sight."""
        self.inside("mount", "-t", "tmpfs", "-o", "size=1M,mode=755", "tmpfs", self.place)

    def bring_back(self):
        self.inside("umount", self.place)


@pytest.fixture
def apart():
    folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o700)
    n = Apart(folder)
    yield n.start()
    n.end()
    subprocess.run(["rm", "-rf", folder], check=True)


def states(n, path, wanted, timeout=60):
    end = time.monotonic() + timeout
    while (doc := n.ask("GET", path))["status"].get("state") not in wanted:
        assert time.monotonic() < end, (doc, n.log())
        time.sleep(0.05)
    return doc


def test_a_pool_is_made_used_and_taken_away(node, tmp_path):  # noqa: F811
    place = tmp_path / "fast"
    place.mkdir(mode=0o755)
    assert [line.split()[0] for line in node.viv("pool", "ls").splitlines()[1:]] == ["default"]
    plan = json.loads(node.viv("pool", "create", "fast", "--path", str(place), "--dry-run"))
    assert plan["spec"]["warn_percent"] == 90 and not os.listdir(place)
    node.viv("pool", "create", "fast", "--path", str(place))
    shown = json.loads(node.viv("pool", "show", "fast"))
    assert shown["status"]["size"] >= shown["status"]["used"] > 0 and shown["status"]["path"] == str(place)
    assert shown["uid"] in (place / ".viv-pool").read_text()
    node.viv("volume", "create", "v", "64M", "--pool", "fast")
    assert os.listdir(place / "volumes") and not os.listdir(os.path.join(node.data, "volumes"))
    assert "fast" in node.viv("volume", "ls")
    # It stays while something is in it, and its path stays what it is.
    assert "the volume 'v'" in node.ask("DELETE", "/v1/pools/fast", status=409)["error"]["message"]
    assert node.ask("PATCH", "/v1/pools/fast", {"spec": {"path": "/tmp"}}, status=400)["error"]["field"] == "spec.path"
    assert node.ask("PATCH", "/v1/volumes/v", {"spec": {"pool": "default"}}, status=400)["error"]["field"] == "spec.pool"
    node.viv("pool", "set", "fast", "warn_percent=50", "limit_percent=60")
    node.kill()
    node.start()
    node.wait("/v1/volumes/v", "ready")
    node.viv("volume", "rm", "v")
    node.viv("pool", "rm", "fast")
    assert not os.listdir(place)
    assert "has to stay" in node.viv("pool", "rm", "default", status=4)


def test_what_cannot_be_a_pool_is_refused(node, tmp_path):  # noqa: F811
    place, link, shared = tmp_path / "p", tmp_path / "link", tmp_path / "shared"
    (place / "deeper").mkdir(parents=True, mode=0o755)
    place.chmod(0o755)
    link.symlink_to(place)
    shared.mkdir()
    shared.chmod(0o777)

    def refused(path, status=400):
        return node.ask("POST", "/v1/pools", {"name": "x", "spec": {"path": str(path)}}, status=status)["error"]["message"]

    assert "no directory" in refused(tmp_path / "nothing") and "no directory" in refused("/etc/passwd")
    assert "plainly" in refused(f"{place}/../p") and "below '/'" in refused("/")
    assert "one in the other" in refused(node.data) and "one in the other" in refused(f"{node.data}/volumes")
    node.viv("pool", "create", "p", "--path", str(place))
    assert "the pool 'p'" in refused(place / "deeper") and "the pool 'p'" in refused(tmp_path)
    for path, why in ((link, "symbolic link"), (shared, "others may change")):
        node.ask("POST", "/v1/pools", {"name": "x", "spec": {"path": str(path)}}, status=201)
        assert why in node.wait("/v1/pools/x", "failed")["status"]["reason"]
        # Nothing is put into it.
        node.ask("POST", "/v1/volumes", {"name": "v", "spec": {"size": "1M", "pool": "x"}}, status=201)
        time.sleep(0.3)
        assert "ready" != node.ask("GET", "/v1/volumes/v")["status"].get("state")
        node.viv("volume", "rm", "v")
        node.viv("pool", "rm", "x")
    assert os.listdir(shared) == [] and "deeper" in os.listdir(place)
    assert node.ask("POST", "/v1/volumes", {"name": "v", "spec": {"size": "1M", "pool": "nope"}}, status=400)["error"]["field"] == "spec.pool"
    node.ask("POST", "/v1/pools", {"name": "y", "spec": {"path": str(shared), "warn_percent": 50, "limit_percent": 40}}, status=400)


def test_a_pool_that_is_not_mounted_is_waited_for(apart, guest):  # noqa: F811
    apart.mount()
    apart.viv("pool", "create", "away", "--path", apart.place)
    apart.viv("volume", "create", "v", "8M", "--pool", "away")
    apart.ask("POST", "/v1/instances", {"name": "a", "spec": dict(guest, state="stopped", disks=[{"volume": "v"}])}, status=201)
    apart.wait("/v1/instances/a", "stopped")
    apart.put_aside()
    assert "is it mounted?" in apart.wait("/v1/pools/away", "gone")["status"]["reason"]
    assert "'away' is not there" in apart.wait("/v1/volumes/v", "unavailable")["status"]["reason"]
    apart.ask("PATCH", "/v1/instances/a", {"spec": {"state": "running"}})
    end = time.monotonic() + 30
    while "'away' is not there" not in apart.ask("GET", "/v1/instances/a")["status"].get("reason", ""):
        assert time.monotonic() < end
        time.sleep(0.05)
    # Neither a new volume nor a disk is made in the empty directory, whatever is asked for and whoever is killed.
    apart.ask("POST", "/v1/volumes", {"name": "w", "spec": {"size": "1M", "pool": "away"}}, status=201)
    apart.ask("PATCH", "/v1/volumes/v", {"spec": {"size": "16M"}})
    pid = apart.proc.pid
    apart.prefix = ["nsenter", "-t", str(holder(apart)), *(["--mount"] if os.geteuid() == 0 else
                                                           ["--user", "--mount", "--preserve-credentials"])]
    apart.kill()
    assert pid != apart.start().proc.pid
    apart.wait("/v1/pools/away", "gone")
    apart.wait("/v1/volumes/v", "unavailable")
    assert apart.ask("GET", "/v1/instances/a")["status"]["state"] == "starting"
    apart.inside("sh", "-c", f"test -z \"$(ls -A {apart.place})\"")
    apart.bring_back()
    apart.wait("/v1/volumes/w", "ready")
    apart.wait("/v1/instances/a", "running")
    assert apart.ask("GET", "/v1/volumes/v")["status"]["size"] in (8 << 20, 16 << 20)
    apart.viv("rm", "-f", "a")
    apart.viv("volume", "rm", "v", "w")
    apart.viv("pool", "rm", "away")
    apart.holder.kill()
    apart.holder.wait()


def holder(n):
    """A process that keeps the mounts while the daemon is away."""
    names = ["--mount"] if os.geteuid() == 0 else ["--user", "--mount", "--preserve-credentials"]
    n.holder = subprocess.Popen(["nsenter", "-t", str(n.proc.pid), *names, "sleep", "600"])
    end = time.monotonic() + 10
    while not open(f"/proc/{n.holder.pid}/cmdline", "rb").read().startswith(b"sleep"):
        assert time.monotonic() < end
        time.sleep(0.01)
    return n.holder.pid


def test_a_pool_that_fills_warns_and_then_takes_nothing_new(apart):
    apart.mount("32M")
    apart.viv("pool", "create", "small", "--path", apart.place, "--warn", "50", "--limit", "80")
    apart.viv("volume", "create", "v", "8M", "--pool", "small")
    write = lambda megabytes: apart.inside("dd", "if=/dev/zero", f"of={apart.place}/ballast", "bs=1M", f"count={megabytes}", "status=none")
    write(20)
    assert "% are taken" in states(apart, "/v1/pools/small", ["warning"])["status"]["reason"]
    apart.ask("POST", "/v1/volumes", {"name": "w", "spec": {"size": "1M", "pool": "small"}}, status=201)
    write(29)
    states(apart, "/v1/pools/small", ["full"])
    no = apart.ask("POST", "/v1/volumes", {"name": "x", "spec": {"size": "1M", "pool": "small"}}, status=507)["error"]
    assert no["code"] == "no_space" and no["field"] == "spec.pool" and "from 80 % on" in no["message"]
    apart.ask("PATCH", "/v1/volumes/v", {"spec": {"size": "16M"}}, status=507)
    apart.ask("PATCH", "/v1/volumes/v", {"labels": {"a": "b"}})
    assert "full" in apart.viv("pool", "ls")
    write(2)
    states(apart, "/v1/pools/small", ["ready"])
    apart.ask("PATCH", "/v1/volumes/v", {"spec": {"size": "16M"}})


def test_the_first_disk_of_an_instance_lives_in_a_pool(node, guest, tmp_path):  # noqa: F811
    place = tmp_path / "fast"
    place.mkdir(mode=0o755)
    node.viv("pool", "create", "fast", "--path", str(place))
    (tmp_path / "raw").write_bytes(os.urandom(1 << 20))
    node.viv("image", "import", str(tmp_path / "raw"), "raw")
    node.ask("POST", "/v1/instances", {"name": "a", "spec": dict(guest, image="raw", disk_size="2M", pool="fast")}, status=201)
    doc = node.wait("/v1/instances/a", "running")
    root = place / "instances" / doc["uid"] / "root.qcow2"
    assert root.exists() and not os.path.exists(os.path.join(node.data, "instances", doc["uid"], "root.qcow2"))
    assert node.ask("PATCH", "/v1/instances/a", {"spec": {"pool": "default"}}, status=400)["error"]["field"] == "spec.pool"
    assert "the instance 'a'" in node.ask("DELETE", "/v1/pools/fast", status=409)["error"]["message"]
    node.viv("rm", "-f", "a")
    assert os.listdir(place / "instances") == []
    node.viv("pool", "rm", "fast")


@pytest.mark.parametrize("pool", ["default", "fast"])
def test_what_has_never_begun_says_why_it_has_no_snapshot(node, guest, tmp_path, pool):     # noqa: F811
    raw, place = tmp_path / "raw", tmp_path / "place"
    raw.write_bytes(b"image".ljust(1 << 20, b"\0"))
    place.mkdir(mode=0o700)
    node.viv("image", "import", str(raw), "base")
    if pool != "default":
        node.viv("pool", "create", pool, "--path", str(place))
    node.ask("POST", "/v1/instances", {"name": "a", "spec": {**guest, "image": "base", "pool": pool, "state": "stopped"}}, status=201)
    node.ask("POST", "/v1/instances/a/snapshots", {"name": "s"}, status=201)
    assert "is not made yet" in node.wait("/v1/instances/a/snapshots/s", "failed")["status"]["reason"]
    node.viv("start", "a")
    node.wait("/v1/instances/a/snapshots/s", "ready", 120)


def test_pools_survive_kills_while_they_are_made_and_removed(node, tmp_path):  # noqa: F811
    rng = random.Random(6)
    for k in range(8):
        place = tmp_path / f"p{k}"
        place.mkdir(mode=0o755)
        # However full the disk is that the test runs on.
        node.ask("POST", "/v1/pools", {"name": f"p{k}", "spec": {"path": str(place), "warn_percent": 99, "limit_percent": 100}}, status=201)
        time.sleep(rng.uniform(0, 0.02))
        node.kill()
        node.start()
        node.wait(f"/v1/pools/p{k}", "ready")
        node.ask("POST", "/v1/volumes", {"name": "v", "spec": {"size": "1M", "pool": f"p{k}"}}, status=201)
        time.sleep(rng.uniform(0, 0.02))
        node.kill()
        node.start()
        node.wait("/v1/volumes/v", "ready")
        node.viv("volume", "rm", "v")
        node.ask("DELETE", f"/v1/pools/p{k}", status=202)
        time.sleep(rng.uniform(0, 0.02))
        node.kill()
        node.start()
        node.wait_gone(f"/v1/pools/p{k}")
        assert os.listdir(place) == []

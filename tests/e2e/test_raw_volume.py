# SPDX-License-Identifier: Apache-2.0
"""Volumes that are raw files: made, grown, sent, fetched, moved, made another format, and their snapshots, which share blocks."""
import json
import os
import random
import signal
import subprocess
import time

import pytest
import vivguest
from test_node import BUILD, guest, log_has, node  # noqa: F401
from test_reflink import sharing  # noqa: F401
from test_volume_move import COUNT, files, goes_on, pools, restart, settle  # noqa: F401

MIB = 1 << 20


def raw_path(pools, pool, uid):  # noqa: F811
    return f"{pools}/{pool}/volumes/{uid}.raw"


def test_a_raw_volume_is_the_bytes_that_the_guest_sees(node, pools, tmp_path):  # noqa: F811
    node.viv("volume", "create", "v", "64M", "--pool", "a", "--format", "raw")
    doc = node.ask("GET", "/v1/volumes/v")
    path = raw_path(pools, "a", doc["uid"])
    assert doc["spec"]["format"] == "raw" and os.path.getsize(path) == 64 * MIB and os.stat(path).st_blocks == 0
    node.viv("volume", "grow", "v", "96M")
    assert os.path.getsize(path) == 96 * MIB
    # Another format is a move; and it stays what it is said to be.
    no = node.ask("PATCH", "/v1/volumes/v", {"spec": {"format": "qcow2"}}, status=400)["error"]
    assert no["field"] == "spec.format" and "--format" in no["message"]
    node.ask("POST", "/v1/volumes", {"name": "w", "spec": {"size": "1M", "format": "vmdk"}}, status=400)
    # What is in it comes out again, and its holes stay holes.
    words = os.urandom(MIB)
    with open(path, "r+b") as f:
        f.seek(40 * MIB)
        f.write(words)
    out = tmp_path / "out.raw"
    node.viv("volume", "download", "v", str(out))
    content = out.read_bytes()
    assert len(content) == 96 * MIB and content[40 * MIB:41 * MIB] == words and not content[:40 * MIB].strip(b"\0")
    assert out.stat().st_blocks * 512 < 2 * MIB
    # And goes in, from any format.
    subprocess.run([os.path.join(BUILD, "viv"), "disk", "convert", "--format=qcow2", str(out), str(tmp_path / "in.qcow2")], check=True, timeout=60)
    node.viv("volume", "upload", "u", str(tmp_path / "in.qcow2"), "--as", "raw", "--pool", "b", "--size", "128M")
    sent = raw_path(pools, "b", node.ask("GET", "/v1/volumes/u")["uid"])
    assert os.path.getsize(sent) == 128 * MIB and os.listdir(f"{pools}/b/volumes") == [os.path.basename(sent)]
    with open(sent, "rb") as f:
        f.seek(40 * MIB)
        assert f.read(MIB) == words
    assert os.stat(sent).st_blocks * 512 < 4 * MIB
    node.viv("volume", "rm", "v", "u")
    assert files(pools) == {"a": [], "b": []}


def test_a_pool_says_what_its_volumes_are(node, pools):  # noqa: F811
    node.viv("pool", "set", "a", "format=raw")
    node.viv("volume", "create", "v", "4M", "--pool", "a")
    node.viv("volume", "create", "w", "4M", "--pool", "a", "--format", "qcow2")
    node.viv("pool", "set", "a", "format=qcow2")
    formats = {v["name"]: v["spec"]["format"] for v in node.ask("GET", "/v1/volumes")["items"]}
    assert formats == {"v": "raw", "w": "qcow2"}
    node.kill()
    node.start()
    node.wait("/v1/volumes/v", "ready")
    node.viv("volume", "grow", "v", "8M")
    assert "raw" in node.viv("volume", "ls")


def test_a_raw_volume_moves_and_becomes_another_format(node, pools):  # noqa: F811
    node.viv("volume", "create", "v", "32M", "--pool", "a", "--format", "raw")
    uid, words = node.ask("GET", "/v1/volumes/v")["uid"], os.urandom(MIB)
    with open(raw_path(pools, "a", uid), "r+b") as f:
        f.seek(7 * MIB)
        f.write(words)

    def holds(pool, kind):
        assert files(pools) == {p: [f"{uid}.{kind}"] if p == pool else [] for p in ("a", "b")}
        assert node.ask("GET", "/v1/volumes/v")["spec"] == {"size": 32 * MIB, "pool": pool, "format": kind}
        done = subprocess.run([os.path.join(BUILD, "viv"), "disk", "convert", "--force", "--format=raw", f"--source-format={kind}",
                               f"{pools}/{pool}/volumes/{uid}.{kind}", f"{pools}/flat"], check=False, capture_output=True, timeout=60)
        assert not done.returncode, done
        with open(f"{pools}/flat", "rb") as f:
            content = f.read()
        assert len(content) == 32 * MIB and content[7 * MIB:8 * MIB] == words and not content[8 * MIB:].strip(b"\0")

    for pool, kind in (("b", None), ("b", "qcow2"), ("a", None), ("b", "raw"), ("a", "qcow2"), ("a", "raw")):
        kind = kind or node.ask("GET", "/v1/volumes/v")["spec"]["format"]
        node.viv("volume", "move", "v", pool, "--format", kind)
        node.wait("/v1/volumes/v", "ready")
        holds(pool, kind)
    assert "already, and raw" in node.ask("POST", "/v1/volumes/v/move", {"pool": "a"}, status=400)["error"]["message"]
    rng = random.Random(3)
    for k in range(8):
        task = node.ask("POST", "/v1/volumes/v/move", {"pool": "ab"[k % 2], "format": ("qcow2", "raw", "raw", "qcow2")[k % 4]},
                        status=202 if (k % 2, k % 4) else None)
        time.sleep(rng.uniform(0, 0.1))
        node.kill()
        node.start()
        assert settle(node)[-1][0] == "done", task
        spec = node.ask("GET", "/v1/volumes/v")["spec"]
        holds(spec["pool"], spec["format"])


def test_a_volume_gets_another_format_while_its_machine_writes(node, pools, guest):  # noqa: F811
    node.viv("volume", "create", "v", "16M", "--pool", "a", "--format", "raw")
    spec = dict(guest, initrd=vivguest.initrd("bookworm", COUNT, "node-count"), disks=[{"volume": "v"}])
    node.ask("POST", "/v1/instances", {"name": "c", "spec": spec}, status=201)
    node.wait("/v1/instances/c", "running")
    log_has(node, "c", "has 3")
    uid = node.ask("GET", "/v1/volumes/v")["uid"]
    for pool, kind in (("b", "raw"), ("b", "qcow2"), ("a", "raw"), ("a", "qcow2"), ("a", "raw")):
        node.viv("volume", "move", "v", pool, "--format", kind)
        assert files(pools)[pool] == [f"{uid}.{kind}"] and not files(pools)["b" if pool == "a" else "a"]
        goes_on(node)
    node.viv("volume", "grow", "v", "24M")
    assert os.path.getsize(raw_path(pools, "a", uid)) == 24 * MIB
    restart(node)
    goes_on(node)
    rng = random.Random(17)
    for k in range(6):
        now = node.ask("GET", "/v1/volumes/v")["spec"]
        node.ask("POST", "/v1/volumes/v/move", {"pool": "b" if now["pool"] == "a" else "a", "format": rng.choice(["raw", "qcow2"])}, status=202)
        time.sleep(rng.uniform(0, 0.3))
        node.kill()
        if k % 3 == 2:
            for pid in node.processes():
                os.kill(pid, signal.SIGKILL)
        node.start()
        settle(node)
        now = node.ask("GET", "/v1/volumes/v")["spec"]
        assert files(pools) == {p: [f"{uid}.{now['format']}"] if p == now["pool"] else [] for p in ("a", "b")}
        goes_on(node)
    restart(node)


def test_what_shares_no_blocks_has_no_snapshots_of_raw_disks(node, pools, guest):  # noqa: F811
    if node.ask("GET", "/v1/pools/a")["status"]["shares_blocks"]:
        pytest.skip("the file system of the tests shares blocks between files")
    node.viv("volume", "create", "v", "4M", "--pool", "a", "--format", "raw")
    node.ask("POST", "/v1/instances", {"name": "i", "spec": dict(guest, disks=[{"volume": "v"}])}, status=201)
    node.wait("/v1/instances/i", "running")
    no = node.ask("POST", "/v1/instances/i/snapshots", {"name": "s", "spec": {}}, status=422)["error"]
    assert "'v' is raw" in no["message"] and "viv volume move v a --format qcow2" in no["message"]
    node.viv("volume", "move", "v", "a", "--format", "qcow2")
    node.viv("snapshot", "create", "i", "s")
    # And such a snapshot keeps it from becoming raw.
    assert "snapshots in it" in node.viv("volume", "move", "v", "a", "--format", "raw", status=1)
    node.wait("/v1/instances/i", "running")


# --- where the file system shares blocks ---

# The same rising number on a raw disk, and then on a qcow2 one: at any instant they are the same, or the first is one ahead.
PAIR = """
get() { dd if=$1 bs=512 count=1 iflag=direct 2>/dev/null | tr -d '\\0 '; }
put() { printf '%-512s' $2 | dd of=$1 bs=512 conv=notrunc,fsync oflag=direct 2>/dev/null; }
a=$(get /dev/vda) b=$(get /dev/vdb)
echo "begins with ${a:-0} and ${b:-0}."
n=$((${b:-0} + 1))
while :; do
    put /dev/vda $n && put /dev/vdb $n && echo "has $n"
    n=$((n + 1))
done
"""


def keep(n):
    """A process that keeps the mounts of N while its daemon is away, which begins there from then on."""
    holder = subprocess.Popen(["nsenter", "-t", str(n.proc.pid), "--mount", "sleep", "900"])
    end = time.monotonic() + 10
    while not open(f"/proc/{holder.pid}/cmdline", "rb").read().startswith(b"sleep"):
        assert time.monotonic() < end
        time.sleep(0.01)
    n.prefix = ["nsenter", "-t", str(holder.pid), "--mount"]
    return holder


class Pair:
    """An instance c of a Sharing node that counts on a raw disk and a qcow2 one, in a pool 'p'."""
    def __init__(self, n, guest, kind="raw"):  # noqa: F811
        self.n, self.place, self.name = n, os.path.join(n.place, "pool"), "c"
        n.inside("mkdir", "-m", "755", self.place)
        n.viv("pool", "create", "p", "--path", self.place, "--format", kind)
        n.viv("volume", "create", "v", "16M", "--pool", "p")
        n.viv("volume", "create", "w", "16M", "--pool", "p", "--format", "qcow2")
        spec = dict(guest, initrd=vivguest.initrd("bookworm", PAIR, "node-pair"), disks=[{"volume": "v"}, {"volume": "w"}])
        n.ask("POST", "/v1/instances", {"name": "c", "spec": spec}, status=201)
        n.wait("/v1/instances/c", "running")
        log_has(n, "c", "has 3")
        self.uid = n.ask("GET", "/v1/volumes/v")["uid"]

    def log(self):
        return self.n.ask("GET", f"/v1/instances/{self.name}/log").decode(errors="replace")

    def begins(self, then):
        """What it finds on its disks when it boots because of THEN: of one instant."""
        before, end = self.log().count("begins with"), time.monotonic() + 90
        then()
        while (log := self.log()).count("begins with") <= before or "." not in log.split("begins with")[-1]:
            assert time.monotonic() < end, self.n.log()
            time.sleep(0.05)
        raw, inside = (int(word) for word in log.split("begins with ")[-1].split(".")[0].split(" and "))
        assert raw - 1 <= inside <= raw, (raw, inside)
        return raw

    def last(self):
        return max((int(line.split()[1]) for line in self.log().splitlines() if line.startswith("has ") and line.split()[-1].isdigit()),
                   default=0)

    def revert(self, name):
        task = self.n.ask("POST", f"/v1/instances/c/snapshots/{name}/revert", status=202)
        self.n.wait(f"/v1/tasks/{task['name']}", "done")

    def there(self):
        """What of the raw disk is in its pool, but the disk."""
        names = self.n.inside("ls", os.path.join(self.place, "volumes")).split()
        return sorted(x for x in names if x.startswith(self.uid) and x not in (self.uid, self.uid + ".raw"))


def test_snapshots_of_raw_and_qcow2_disks_are_of_one_instant(sharing, guest):  # noqa: F811
    n = sharing
    p = Pair(n, guest)
    status = n.ask("GET", "/v1/pools/p")["status"]
    assert status["shares_blocks"] is True and status["file_system"] in ("btrfs", "xfs")
    assert status["driver"] == ("btrfs" if status["file_system"] == "btrfs" else "dir")
    before = p.last()
    n.viv("snapshot", "create", "c", "one")
    after = p.last() + 1
    assert len(p.there()) == 1
    time.sleep(0.5)
    assert before <= p.begins(lambda: p.revert("one")) <= after
    # A second time, of one that is off; and with memory, which goes on in the middle of it.
    n.ask("PATCH", "/v1/instances/c", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
    n.wait("/v1/instances/c", "stopped")
    n.viv("snapshot", "create", "c", "off")
    at = p.begins(lambda: n.ask("PATCH", "/v1/instances/c", {"spec": {"state": "running"}}))
    log_has(n, "c", f"has {at + 3}")
    n.viv("snapshot", "create", "c", "memory", "--memory")
    assert len(p.there()) == 3
    time.sleep(0.3)
    assert p.begins(lambda: p.revert("off")) == at
    boots = p.log().count("begins with")
    p.revert("memory")
    n.wait("/v1/instances/c", "running")
    last, end = p.last(), time.monotonic() + 60
    while p.last() < last + 3:
        assert time.monotonic() < end, n.log()
        time.sleep(0.05)
    assert p.log().count("begins with") == boots
    # What it goes on with fits to its disks.
    n.ask("PATCH", "/v1/instances/c", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
    n.wait("/v1/instances/c", "stopped")
    last = p.last()
    assert p.begins(lambda: n.ask("PATCH", "/v1/instances/c", {"spec": {"state": "running"}})) >= last - 1
    # While they are there it cannot go elsewhere.
    assert "share blocks" in n.viv("volume", "move", "v", "default", status=1)
    for name in ("one", "off", "memory"):
        n.viv("snapshot", "rm", "c", name)
    assert not p.there()
    n.viv("volume", "move", "v", "default")
    n.viv("snapshot", "create", "c", "again")
    n.viv("rm", "--force", "c")
    n.viv("volume", "rm", "v", "w")
    assert n.inside("ls", os.path.join(n.data, "volumes")).split() == [] and n.inside("ls", os.path.join(p.place, "volumes")).split() == []
    n.viv("pool", "rm", "p")
    assert n.inside("ls", "-A", p.place).split() == []


def test_kills_leave_whole_snapshots_of_raw_disks_or_none(sharing, guest):  # noqa: F811
    n = sharing
    p = Pair(n, guest)
    rng = random.Random(5)
    holder = keep(n)
    try:
        for k in range(8):
            n.ask("POST", "/v1/instances/c/snapshots", {"name": f"s{k}", "spec": {"memory": k % 3 == 1}}, status=201)
            time.sleep(rng.uniform(0, 0.25))
            n.kill()
            if k % 4 == 3:
                for pid in n.processes():
                    os.kill(pid, signal.SIGKILL)
            n.start()
            n.wait(f"/v1/instances/c/snapshots/s{k}", "ready")
            n.wait("/v1/instances/c", "running")
            last, end = p.last(), time.monotonic() + 60
            while p.last() < last + 2:
                assert time.monotonic() < end, n.log()
                time.sleep(0.05)
        assert len(p.there()) == 8
        for k in rng.sample(range(8), 4):
            task = n.ask("POST", f"/v1/instances/c/snapshots/s{k}/revert", status=202)
            time.sleep(rng.uniform(0, 0.1))
            n.kill()
            n.start()
            n.wait(f"/v1/tasks/{task['name']}", "done")
            n.wait("/v1/instances/c", "running")
        n.ask("PATCH", "/v1/instances/c", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
        n.wait("/v1/instances/c", "stopped")
        p.begins(lambda: n.ask("PATCH", "/v1/instances/c", {"spec": {"state": "running"}}))
        for k in range(8):
            n.ask("DELETE", f"/v1/instances/c/snapshots/s{k}", status=202)
            if k % 2:
                n.kill()
                n.start()
        for k in range(8):
            n.wait_gone(f"/v1/instances/c/snapshots/s{k}")
        assert not p.there()
        n.wait("/v1/instances/c", "running")
    finally:
        holder.kill()
        holder.wait()


def test_clones_of_a_volume_begin_as_it_was_at_one_instant(sharing, guest):  # noqa: F811
    n = sharing
    p = Pair(n, guest)
    n.viv("snapshot", "create", "c", "s")
    before = p.last()
    for name, of, more in (("rr", "v", []), ("rq", "v", ["--format", "qcow2"]), ("qq", "w", []), ("qr", "w", ["--format", "raw"]),
                           ("far", "v", ["--pool", "default"])):
        n.viv("volume", "clone", of, name, *more)
        doc = n.wait(f"/v1/volumes/{name}", "ready")
        assert doc["spec"]["size"] == 16 * MIB and doc["uid"] not in (p.uid,)
    after = p.last() + 1
    assert n.ask("GET", "/v1/instances/c")["status"]["state"] == "running"
    n.ask("PATCH", "/v1/instances/c", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
    n.wait("/v1/instances/c", "stopped")
    # Of one that is off, with all that it has; its snapshots are its own.
    off = p.last()
    n.viv("volume", "clone", "v", "or")
    n.viv("volume", "clone", "w", "oq")
    docs = {v["name"]: v for v in n.ask("GET", "/v1/volumes")["items"]}
    for name, least, most in (("rr", before, after), ("rq", before, after), ("qq", before, after), ("qr", before, after),
                              ("far", before, after), ("or", off, off + 1), ("oq", off - 1, off + 1)):
        kind, uid = docs[name]["spec"]["format"], docs[name]["uid"]
        folder = os.path.join(n.data if docs[name]["spec"]["pool"] == "default" else p.place, "volumes")
        path = next(f for f in n.inside("find", folder, "-name", f"*.{kind}").split() if uid in f)
        n.inside(os.path.join(BUILD, "viv"), "disk", "convert", "--force", "--format=raw", f"--source-format={kind}", path, f"{n.place}/flat")
        has = int(n.inside("head", "-c", "512", f"{n.place}/flat").split()[0])
        assert least <= has <= most, (name, least, has, most)
        if kind == "qcow2":
            assert n.inside(os.path.join(BUILD, "viv"), "disk", "snapshot", "list", path, "--json").split() == ["[]"]
    # The raw ones took no room of their own, at least where they could share.
    n.inside("rm", f"{n.place}/flat")
    paths = [f for f in n.inside("find", p.place, "-name", "*.raw").split() if docs["or"]["uid"] in f]
    shared, size = n.shared(paths[0])
    assert shared == size > 0
    # And whoever is killed, there is one or none, and nothing besides.
    rng = random.Random(9)
    holder = keep(n)
    try:
        for k in range(6):
            task = n.ask("POST", f"/v1/volumes/{'vw'[k % 2]}/clone", {"name": f"k{k}", "format": rng.choice(["raw", "qcow2"])}, status=202)
            time.sleep(rng.uniform(0, 0.05))
            if k == 5:
                n.ask("DELETE", f"/v1/tasks/{task['name']}", status=202)
            n.kill()
            n.start()
            if k < 5:
                n.wait(f"/v1/tasks/{task['name']}", "done")
                n.wait(f"/v1/volumes/k{k}", "ready")
            else:
                n.wait_gone(f"/v1/tasks/{task['name']}")
    finally:
        holder.kill()
        holder.wait()
    n.viv("rm", "--force", "c")
    names = [v["name"] for v in n.ask("GET", "/v1/volumes")["items"]]
    n.viv("volume", "rm", *names)
    assert n.inside("ls", os.path.join(n.data, "volumes")).split() == [] and n.inside("ls", os.path.join(p.place, "volumes")).split() == []


def test_a_volume_is_cloned_where_nothing_is_shared(node, pools):  # noqa: F811
    node.viv("volume", "create", "v", "4M", "--pool", "a")
    assert json.loads(node.viv("volume", "clone", "v", "w", "--dry-run"))["params"]["format"] == "qcow2"
    node.viv("volume", "clone", "v", "w", "--format", "raw", "--pool", "b")
    assert [len(x) for x in files(pools).values()] == [1, 1]
    assert "already" in node.ask("POST", "/v1/volumes/v/clone", {"name": "w"}, status=409)["error"]["message"]
    assert node.ask("POST", "/v1/volumes/v/clone", {"name": "x", "pool": "nope"}, status=400)["error"]["field"] == "pool"
    node.ask("POST", "/v1/volumes/none/clone", {"name": "x"}, status=404)
    node.ask("PATCH", "/v1/projects/default", {"spec": {"quota": {"disk": "8M"}}})
    assert "quota" in node.ask("POST", "/v1/volumes/v/clone", {"name": "x"}, status=422)["error"]["message"]


def room(n, name, wanted, what="allocated", timeout=90):
    """Until the status of the volume says that it takes about so much."""
    end = time.monotonic() + timeout
    while not wanted <= (has := n.ask("GET", f"/v1/volumes/{name}").get("status", {}).get(what, -1)) <= wanted + MIB:
        assert time.monotonic() < end, (name, what, has, wanted)
        time.sleep(0.1)


def test_what_is_taken_is_counted_once_where_it_is_shared(sharing, tmp_path):  # noqa: F811
    n, place = sharing, os.path.join(sharing.place, "pool")
    n.inside("mkdir", "-m", "755", place)
    n.viv("pool", "create", "p", "--path", place)
    is_btrfs = n.ask("GET", "/v1/pools/p")["status"]["driver"] == "btrfs"
    if is_btrfs:
        n.inside("btrfs", "quota", "enable", place)
    n.viv("volume", "create", "empty", "64M", "--pool", "p", "--format", "raw")
    room(n, "empty", 0)
    # A sparse raw disk and a qcow2 one take what is in them, and not what guests see.
    (tmp_path / "disk").write_bytes(os.urandom(24 * MIB))
    for name, kind in (("raw", "raw"), ("inside", "qcow2")):
        n.viv("volume", "upload", name, str(tmp_path / "disk"), "--as", kind, "--size", "100M", "--pool", "p")
        room(n, name, 24 * MIB)
    n.inside("sync", "-f", place)

    def used():
        n.inside("sync", "-f", place)
        end = time.monotonic() + 60
        while True:
            status = n.ask("GET", "/v1/pools/p")["status"]
            files = os.statvfs(f"/proc/{n.proc.pid}/root{place}")
            now = (files.f_blocks - files.f_bfree) * files.f_frsize
            if abs(status["used"] - now) <= status["size"] // 100:
                return status["used"]
            assert time.monotonic() < end, (status, now)
            time.sleep(0.2)

    before = used()
    for name in ("raw", "inside"):
        n.viv("volume", "clone", name, f"{name}-too")
        room(n, f"{name}-too", 24 * MIB)
    # Each refers to all of it, and the pool has it once.
    assert used() - before < 12 * MIB
    holder = keep(n)
    try:
        if is_btrfs:
            n.inside("btrfs", "quota", "rescan", "-w", place)
        # It is looked at once a minute, and when the daemon begins.
        n.kill()
        n.start()
        if is_btrfs:
            end = time.monotonic() + 90
            while n.ask("GET", "/v1/volumes/raw-too")["status"].get("exclusive", 1 << 40) > 2 * MIB:
                assert time.monotonic() < end, n.ask("GET", "/v1/volumes/raw-too")
                time.sleep(0.2)
        room(n, "raw", 24 * MIB)
    finally:
        holder.kill()
        holder.wait()

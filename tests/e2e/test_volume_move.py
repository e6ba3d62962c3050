# SPDX-License-Identifier: Apache-2.0
"""Volumes move between pools, with a machine that writes and without, whatever is killed meanwhile."""
import glob
import json
import os
import random
import signal
import time

import pytest
import vivguest
from test_node import guest, log_has, node  # noqa: F401

# Writes rising numbers for ever, each of them flushed, and says from which one it went on.
COUNT = """
n=$(dd if=/dev/vda bs=512 count=1 iflag=direct 2>/dev/null | tr -d '\\0')
echo "goes on from ${n:-0}"
n=$((${n:-0} + 1))
while :; do
    printf '%-512s' $n | dd of=/dev/vda bs=512 conv=notrunc,fsync oflag=direct 2>/dev/null && echo "has $n"
    n=$((n + 1))
done
"""

# The same on two disks in turn; the lower number of the two is the one from which it goes on.
COUNT_TWO = """
number() { dd if=/dev/$1 bs=512 count=1 iflag=direct 2>/dev/null | tr -d '\\0'; }
put() { printf '%-512s' $2 | dd of=/dev/$1 bs=512 conv=notrunc,fsync oflag=direct 2>/dev/null; }
a=$(number vda); b=$(number vdb)
n=${a:-0}
[ ${b:-0} -lt $n ] && n=${b:-0}
echo "goes on from $n"
while :; do
    n=$((n + 1))
    put vda $n && put vdb $n && echo "has $n"
done
"""


@pytest.fixture
def pools(node, tmp_path):  # noqa: F811
    for name in ("a", "b"):
        (tmp_path / name).mkdir(mode=0o755)
        node.viv("pool", "create", name, "--path", str(tmp_path / name))
    return tmp_path


def files(pools):
    return {name: sorted(os.path.basename(f) for f in glob.glob(f"{pools}/{name}/volumes/*")) for name in ("a", "b")}


def settle(node, timeout=90):  # noqa: F811
    """Every task has ended; how."""
    end = time.monotonic() + timeout
    while True:
        items = node.ask("GET", "/v1/tasks")["items"]
        if all(t.get("status", {}).get("state") in ("done", "failed", "cancelled") for t in items):
            break
        assert time.monotonic() < end, (items, node.log())
        time.sleep(0.02)
    return [(t["status"]["state"], t["status"].get("reason")) for t in items]


def where(node, pools, name="v"):  # noqa: F811
    """The pool in the document, with the one file there and nothing anywhere else."""
    doc = node.ask("GET", f"/v1/volumes/{name}")
    pool = doc["spec"]["pool"]
    assert files(pools) == {p: [doc["uid"] + ".qcow2"] if p == pool else [] for p in ("a", "b")}, (pool, node.ask("GET", "/v1/tasks"))
    return pool


def numbers(node):  # noqa: F811
    said = node.ask("GET", "/v1/instances/c/log").decode(errors="replace")
    return [int(word.split()[-1]) for word in said.splitlines() if word.startswith("has ") and word.split()[-1].isdigit()]


def numbers_of(node):  # noqa: F811
    """The same without a daemon that could be asked."""
    said = []
    for path in glob.glob(f"{node.data}/instances/*/console.log"):
        with open(path, encoding="utf-8", errors="replace") as f:
            said += [int(line.split()[-1]) for line in f if line.startswith("has ") and line.split()[-1].isdigit()]
    return said


@pytest.fixture
def counting(node, pools, guest):  # noqa: F811
    node.viv("volume", "create", "v", "16M", "--pool", "a")
    spec = dict(guest, initrd=vivguest.initrd("bookworm", COUNT, "node-count"), disks=[{"volume": "v"}])
    node.ask("POST", "/v1/instances", {"name": "c", "spec": spec}, status=201)
    node.wait("/v1/instances/c", "running")
    log_has(node, "c", "has 3")
    return pools


def goes_on(node):  # noqa: F811
    node.wait("/v1/instances/c", "running")
    last, end = max(numbers(node), default=0), time.monotonic() + 60
    while max(numbers(node), default=0) < last + 2:
        assert time.monotonic() < end, node.log()
        time.sleep(0.05)


def restart(node):  # noqa: F811
    """Power off without a word, start again: the last number that was flushed, or one that was on its way, is there."""
    said = max(numbers(node))
    node.ask("PATCH", "/v1/instances/c", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
    node.wait("/v1/instances/c", "stopped")
    before = node.ask("GET", "/v1/instances/c/log").count(b"goes on from")
    node.ask("PATCH", "/v1/instances/c", {"spec": {"state": "running"}})
    end = time.monotonic() + 60
    while (log := node.ask("GET", "/v1/instances/c/log")).count(b"goes on from") <= before:
        assert time.monotonic() < end, node.log()
        time.sleep(0.05)
    log_has(node, "c", "goes on from")
    time.sleep(0.1)
    log = node.ask("GET", "/v1/instances/c/log").decode(errors="replace")
    assert int(log.split("goes on from ")[-1].split()[0]) >= said


@pytest.fixture
def counting_two(node, pools, guest):  # noqa: F811
    for name in ("v", "w"):
        node.viv("volume", "create", name, "16M", "--pool", "a")
    spec = dict(guest, initrd=vivguest.initrd("bookworm", COUNT_TWO, "node-count-two"), disks=[{"volume": "v"}, {"volume": "w"}])
    node.ask("POST", "/v1/instances", {"name": "c", "spec": spec}, status=201)
    node.wait("/v1/instances/c", "running")
    log_has(node, "c", "has 3")
    return pools


def where_two(node, pools):  # noqa: F811
    """The pools of both, each with its one file there."""
    docs = [node.ask("GET", f"/v1/volumes/{name}") for name in ("v", "w")]
    there = {p: sorted(d["uid"] + ".qcow2" for d in docs if d["spec"]["pool"] == p) for p in ("a", "b")}
    assert files(pools) == there, node.ask("GET", "/v1/tasks")
    return [d["spec"]["pool"] for d in docs]


def move_both(node, pools):  # noqa: F811
    """Each to the other pool, at once."""
    return [node.ask("POST", f"/v1/volumes/{name}/move", {"pool": "b" if pool == "a" else "a"}, status=202)["name"]
            for name, pool in zip(("v", "w"), where_two(node, pools))]


def test_a_volume_moves_while_nobody_uses_it(node, pools, guest):  # noqa: F811
    node.viv("volume", "create", "v", "16M", "--pool", "a")
    assert json.loads(node.viv("volume", "move", "v", "b", "--dry-run"))["params"]["to"] == "b"
    node.viv("volume", "move", "v", "b")
    assert where(node, pools) == "b"
    node.viv("volume", "move", "v", "a", "--json")
    assert where(node, pools) == "a"
    node.viv("volume", "move", "v", "default")
    assert files(pools) == {"a": [], "b": []}
    node.viv("volume", "move", "v", "b")
    no = node.ask("POST", "/v1/volumes/v/move", {"pool": "b"}, status=400)["error"]
    assert "already" in no["message"] and no["field"] == "pool"
    node.ask("POST", "/v1/volumes/v/move", {"pool": "nope"}, status=400)
    node.ask("POST", "/v1/volumes/w/move", {"pool": "a"}, status=404)
    node.viv("volume", "rm", "v")
    assert files(pools) == {"a": [], "b": []}


def test_a_volume_moves_while_its_machine_writes(node, counting):  # noqa: F811
    node.viv("volume", "move", "v", "b")
    assert where(node, counting) == "b"
    goes_on(node)
    node.viv("volume", "move", "v", "a")
    assert where(node, counting) == "a"
    goes_on(node)
    restart(node)
    goes_on(node)
    # Snapshots do not go along with a machine that runs.
    node.viv("snapshot", "create", "c", "s")
    assert "snapshots" in node.viv("volume", "move", "v", "b", status=1)
    assert where(node, counting) == "a"
    goes_on(node)


def test_a_move_that_is_cancelled_leaves_the_volume_where_it_was(node, counting):  # noqa: F811
    for k in range(4):
        task = node.ask("POST", "/v1/volumes/v/move", {"pool": "b" if where(node, counting) == "a" else "a"}, status=202)
        time.sleep(0.02 * k)
        done = node.get_any(f"/v1/tasks/{task['name']}")
        if done.get("status", {}).get("state") != "done":
            try:
                node.ask("POST", f"/v1/tasks/{task['name']}/cancel", status=202)
            except AssertionError:
                pass                    # it has ended in between
        settle(node)
        where(node, counting)
        goes_on(node)
    # Forgotten while it goes on: the same.
    task = node.ask("POST", "/v1/volumes/v/move", {"pool": "b" if where(node, counting) == "a" else "a"}, status=202)
    node.ask("DELETE", f"/v1/tasks/{task['name']}", status=202)
    node.wait_gone(f"/v1/tasks/{task['name']}")
    where(node, counting)
    goes_on(node)


def test_whatever_is_killed_the_volume_is_in_one_place(node, counting):  # noqa: F811
    rng = random.Random(66)
    for k in range(10):
        node.ask("POST", "/v1/volumes/v/move", {"pool": "b" if where(node, counting) == "a" else "a"}, status=202)
        time.sleep(rng.uniform(0, 0.25))
        node.kill()
        said = max(numbers_of(node), default=0)
        if k % 3 == 2:
            for pid in node.processes():
                os.kill(pid, signal.SIGKILL)
        node.start()
        settle(node)
        where(node, counting)
        goes_on(node)
        # What was flushed is there, wherever the machine has gone on.
        log = node.ask("GET", "/v1/instances/c/log").decode(errors="replace")
        if k % 3 == 2:
            assert int(log.split("goes on from ")[-1].split()[0]) >= said
    restart(node)


def test_two_volumes_of_one_machine_move_at_once(node, counting_two):  # noqa: F811
    was = where_two(node, counting_two)
    for k in range(6):
        move_both(node, counting_two)
        assert all(state == "done" for state, _ in settle(node)), node.ask("GET", "/v1/tasks")
        is_now = where_two(node, counting_two)
        assert all(a != b for a, b in zip(was, is_now)), (k, was, is_now)
        goes_on(node)
        # From now on one of them goes where the other one comes from.
        if k == 2:
            node.viv("volume", "move", "v", "b" if is_now[0] == "a" else "a")
        was = where_two(node, counting_two)
    # Who takes one back does not take back the other.
    for k in range(4):
        was = where_two(node, counting_two)
        one, other = move_both(node, counting_two)
        time.sleep(0.02 * k)
        if node.get_any(f"/v1/tasks/{one}").get("status", {}).get("state") != "done":
            try:
                node.ask("POST", f"/v1/tasks/{one}/cancel", status=202)
            except AssertionError:
                pass                    # it has ended in between
        settle(node)
        assert node.ask("GET", f"/v1/tasks/{other}")["status"]["state"] == "done"
        state = node.ask("GET", f"/v1/tasks/{one}")["status"]["state"]
        assert [a != b for a, b in zip(was, where_two(node, counting_two))] == [state == "done", True]
        goes_on(node)
    restart(node)


def test_two_moves_of_one_machine_and_kills(node, counting_two):  # noqa: F811
    rng = random.Random(67)
    for k in range(8):
        moves = move_both(node, counting_two)
        time.sleep(rng.uniform(0, 0.25))
        node.kill()
        said = max(numbers_of(node), default=0)
        if k % 3 == 2:
            for pid in node.processes():
                os.kill(pid, signal.SIGKILL)
        node.start()
        settle(node)
        assert [node.ask("GET", f"/v1/tasks/{t}")["status"]["state"] for t in moves] == ["done", "done"], k
        where_two(node, counting_two)
        goes_on(node)
        if k % 3 == 2:
            log = node.ask("GET", "/v1/instances/c/log").decode(errors="replace")
            assert int(log.split("goes on from ")[-1].split()[0]) >= said
    restart(node)


def test_kills_of_the_daemon_while_it_copies(node, pools):  # noqa: F811
    node.viv("volume", "create", "v", "64M", "--pool", "a")
    path = f"{pools}/a/volumes/{files(pools)['a'][0]}"
    with open(path, "r+b") as f:
        before = os.path.getsize(path)
        f.seek(before)
        f.write(os.urandom(48 << 20))
    rng = random.Random(7)
    for _ in range(8):
        node.ask("POST", "/v1/volumes/v/move", {"pool": "b" if where(node, pools) == "a" else "a"}, status=202)
        time.sleep(rng.uniform(0, 0.15))
        node.kill()
        node.start()
        assert settle(node)[-1][0] == "done"
        where(node, pools)


def test_a_move_and_going_back_wait_for_each_other(node, pools, tmp_path):  # noqa: F811
    """Both want the disks of a machine that is off: one at a time has them, and whoever comes second looks where they are then."""
    dice, raw = random.Random(28), tmp_path / "raw"
    raw.write_bytes(b"image".ljust(1 << 20, b"\0"))
    node.viv("image", "import", str(raw), "base")
    node.viv("volume", "create", "v", "16M", "--pool", "a")
    spec = {"image": "base", "memory": "16M", "networks": [], "disks": [{"volume": "v"}], "shutdown_seconds": 0}
    node.ask("POST", "/v1/instances", {"name": "c", "spec": spec}, status=201)
    node.wait("/v1/instances/c", "running")
    node.ask("PATCH", "/v1/instances/c", {"spec": {"state": "stopped"}})
    node.wait("/v1/instances/c", "stopped")
    node.ask("POST", "/v1/instances/c/snapshots", {"name": "s", "spec": {}}, status=201)
    node.wait("/v1/instances/c/snapshots/s", "ready")
    pool = "a"
    for _ in range(12):
        pool = "b" if pool == "a" else "a"
        asks = [lambda: node.ask("POST", "/v1/instances/c/snapshots/s/revert", status=202),
                lambda to=pool: node.ask("POST", "/v1/volumes/v/move", {"pool": to}, status=202)]
        dice.shuffle(asks)
        for ask in asks:
            ask()
            time.sleep(dice.random() * 0.01)
        assert all(state == "done" for state, _ in settle(node)), node.ask("GET", "/v1/tasks")
        assert where(node, pools) == pool


def test_one_that_is_only_just_being_made_moves_then(node, pools):  # noqa: F811
    for k in range(10):
        node.ask("POST", "/v1/volumes", {"name": f"v{k}", "spec": {"size": "2M", "pool": "a"}}, status=201)
        task = node.ask("POST", f"/v1/volumes/v{k}/move", {"pool": "b"}, status=202)["name"]
        if k % 5 == 4:
            node.kill()
            node.start()
        assert node.wait(f"/v1/tasks/{task}", "done")
        assert node.wait(f"/v1/volumes/v{k}", "ready")["spec"]["pool"] == "b"
    # One that waits for its content waits with it, and can be cancelled.
    node.ask("POST", "/v1/volumes", {"name": "w", "spec": {"size": "2M", "pool": "a", "source": {"upload": {"size": "1M"}}}}, status=201)
    node.wait("/v1/volumes/w", "waiting")
    task = node.ask("POST", "/v1/volumes/w/move", {"pool": "b"}, status=202)["name"]
    end = time.monotonic() + 60
    while "until 'w' is made" not in node.ask("GET", f"/v1/tasks/{task}").get("status", {}).get("reason", ""):
        assert time.monotonic() < end
        time.sleep(0.02)
    node.ask("POST", f"/v1/tasks/{task}/cancel", status=202)
    node.wait(f"/v1/tasks/{task}", "cancelled")

# SPDX-License-Identifier: Apache-2.0
"""A disk below the daemon that is slow, hangs, or cannot be written for a while."""
import errno
import json
import os
import random
import subprocess

import pytest
from test_node import BUILD, Unix, guest, log_has  # noqa: F401
from test_node_faults import STOPPED, names, post
from unwell import Later, Unwell


@pytest.fixture
def unwell():
    folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o700)
    n = Unwell(folder)
    yield n.start()
    n.end()
    subprocess.run(["rm", "-rf", folder], check=True)


def metric(n, name):
    text = n.ask("GET", "/v1/metrics").decode()
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(name + " ")))


def read_all(n):
    """What only reads is answered, whatever the disk does."""
    for path in ("/v1/instances", "/v1/instances/a", "/v1/node", "/v1/usage", "/v1/instances/a/why", "/v1/instances/a/log",
                 "/v1/instances/a/stats", "/v1/metrics", "/v1/tasks", "/v1/session"):
        n.ask("GET", path)


def test_who_reads_does_not_wait_for_a_disk_that_hangs(unwell, guest):  # noqa: F811
    unwell.ask("POST", "/v1/instances", {"name": "a", "spec": guest}, status=201)
    unwell.wait("/v1/instances/a", "running")
    log_has(unwell, "a", "guest-is-up")
    made = {"a"}
    for held in ("holds_syncs", "holds_writes"):
        with unwell.with_fault(**{held: 1}):
            unwell.watch()
            change = Later(lambda name=held.replace("_", "-"): post(unwell, name))
            unwell.until(lambda: unwell.faults.waiting)
            slow = unwell.disk("slow")
            assert "is slow" in slow["reason"] and unwell.data in slow["reason"], slow
            read_all(unwell)
            facts = unwell.ask("GET", "/v1/instances/a/why")["facts"]
            assert any("is slow" in json.dumps(f) for f in facts), facts
            assert metric(unwell, "viv_disk_problem") == 1 and metric(unwell, "viv_store_waiting_seconds") > 0
            # The guest goes on, is typed to, and is heard, though its log has to wait.
            unwell.viv("console", "a", stdin=f"{held}\n")
            log_has(unwell, "a", f"heard {held}")
            # Nothing shows that is not durable.
            assert change.is_alive() and names(unwell) == made
            unwell.check_loop()
        assert change.result()[0] == 201
        made.add(held.replace("_", "-"))
        assert names(unwell) == made
        assert unwell.disk("ok")["reason"] == "" and "is well again" in unwell.log()


def test_who_waits_is_told_of_a_disk_that_is_full(unwell, tmp_path):
    """What has failed cannot be noted then either, so whoever waits for an image would wait without a word."""
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\ntouch {tmp_path}/runs\nwhile [ ! -e {tmp_path}/ends ]; do sleep 0.1; done\necho it has no room >&2\nexit 1\n")
    tool.chmod(0o755)
    unwell.kill()
    unwell.start("--image-tool", str(tool))
    waits = subprocess.Popen([os.path.join(BUILD, "viv"), "run", "--socket", unwell.socket, "-d", "debian"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    unwell.until(lambda: (tmp_path / "runs").exists())
    with unwell.with_fault(write_error=errno.ENOSPC):
        (tmp_path / "ends").touch()
        told = waits.stderr.readline()
        assert "no space left; free some" in told and waits.poll() is None, told
    assert "it has no room" in waits.communicate(timeout=120)[1]
    assert waits.returncode == 1


def test_the_loop_leaves_the_disk_to_others(unwell, guest):  # noqa: F811
    """While machines are made, run, are measured, and go."""
    unwell.watch()
    unwell.ask("POST", "/v1/volumes", {"name": "v", "spec": {"size": "1M"}}, status=201)
    unwell.wait("/v1/volumes/v", "ready")
    unwell.ask("POST", "/v1/instances", {"name": "a", "spec": {**guest, "disks": [{"volume": "v"}]}}, status=201)
    unwell.wait("/v1/instances/a", "running")
    log_has(unwell, "a", "guest-is-up")
    unwell.until(lambda: "storage" in unwell.ask("GET", "/v1/usage")["instances"].get("instance/default/a", {}))
    history = os.path.join(unwell.data, "instances", unwell.ask("GET", "/v1/instances/a")["uid"], "history")
    unwell.until(lambda: os.path.exists(history))
    assert any(unwell.ask("GET", "/v1/instances/a/history?span=60")["fields"]["memory"])
    unwell.ask("DELETE", "/v1/instances/a", status=202)
    unwell.wait_gone("/v1/instances/a")
    unwell.check_loop()
    assert unwell.ask("GET", "/v1/audit/verify")["is_whole"]


def test_nobody_holds_what_is_just_being_removed(unwell, tmp_path):
    """Its files go, which takes long here: tasks that come then are told so, and do not wait for what is freed meanwhile."""
    unwell.kill()
    unwell.prefix[-1] = f"VIV_FAULTS_UNDER={unwell.data}/instances"
    unwell.start()
    raw = tmp_path / "raw"
    raw.write_bytes(b"image".ljust(1 << 20, b"\0"))
    unwell.viv("image", "import", str(raw), "base")
    unwell.ask("POST", "/v1/instances", {"name": "a", "spec": {"image": "base", "memory": "16M", "networks": []}}, status=201)
    unwell.wait("/v1/instances/a", "running")
    unwell.ask("POST", "/v1/instances/a/snapshots", {"name": "s", "spec": {}}, status=201)
    unwell.wait("/v1/instances/a/snapshots/s", "ready")
    with unwell.with_fault(holds_writes=1):
        unwell.ask("DELETE", "/v1/instances/a", status=202)
        unwell.until(lambda: unwell.faults.waiting and unwell.ask("GET", "/v1/instances/a")["status"]["state"] == "deleting")
        tasks = [unwell.ask("POST", path, body, status=202)["name"] for path, body in (
            ("/v1/instances/a/snapshots/s/revert", None), ("/v1/instances/a/clone", {"name": "b"}))]
        for task in tasks:
            assert "'a' has gone" in unwell.wait(f"/v1/tasks/{task}", "failed")["status"]["reason"]
    unwell.wait_gone("/v1/instances/a")
    assert os.listdir(os.path.join(unwell.data, "instances")) == [] and names(unwell) == set()


def test_a_disk_that_cannot_be_written_any_more(unwell, guest):  # noqa: F811
    """Changes are refused with the reason, the rest goes on, and so do changes when it can."""
    unwell.ask("POST", "/v1/instances", {"name": "a", "spec": guest}, status=201)
    unwell.wait("/v1/instances/a", "running")
    log_has(unwell, "a", "guest-is-up")
    pids = unwell.processes()
    for error, code, words in ((errno.EIO, "disk", "I/O error"), (errno.EROFS, "read_only", "read-only")):
        lost = metric(unwell, "viv_audit_records_lost_total")
        with unwell.with_fault(write_error=error):
            for method, path, body in (("POST", "/v1/instances", {"name": "b", "spec": STOPPED}), ("DELETE", "/v1/instances/a", None),
                                       ("PATCH", "/v1/instances/a", {"labels": {"x": "y"}})):
                no = unwell.ask(method, path, body, status=507)["error"]
                assert no["code"] == code and words in no["message"], no
            failing = unwell.disk("failing")
            assert words in failing["reason"] and "nothing can be changed" in failing["reason"], failing
            assert metric(unwell, "viv_store_write_failures_total") >= 3
            assert metric(unwell, "viv_audit_records_lost_total") == lost + 3
            read_all(unwell)
            assert names(unwell) == {"a"} and unwell.processes() == pids
            # A machine ends meanwhile: what is seen of it cannot be written, and is not lost.
            if error == errno.EROFS:
                unwell.viv("console", "a", stdin="off\n")
                unwell.until(lambda: not unwell.processes())
        assert unwell.disk("ok")["reason"] == ""
    assert unwell.wait("/v1/instances/a", "stopped")["status"]["reason"] == "power off"
    assert post(unwell, "b")[0] == 201
    unwell.kill()
    unwell.start()
    assert names(unwell) == {"a", "b"} and unwell.ask("GET", "/v1/audit/verify")["is_whole"]


def test_what_a_disk_has_not_synced_is_not_acknowledged(unwell):
    """A failed fsync is told; what was refused does not come back, what was acknowledged does not go, also after a kill."""
    made = set()
    for turn in range(3):
        name = f"m-{turn}"
        assert post(unwell, name)[0] == 201
        made.add(name)
        with unwell.with_fault(sync_error=errno.EIO):
            refused, doc = post(unwell, f"no-{turn}", {"text": "x" * 20000})
            assert refused == 507 and doc["error"]["code"] == "disk", doc
            assert names(unwell) == made
        unwell.disk("ok")
        unwell.kill()
        unwell.start()
        assert names(unwell) == made
    # The name is free, and one more change behind the failure is durable.
    assert post(unwell, "no-1")[0] == 201
    unwell.kill()
    unwell.start()
    assert names(unwell) == made | {"no-1"}

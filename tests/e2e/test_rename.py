# SPDX-License-Identifier: Apache-2.0
"""Another name for an instance: of one that runs, of one that has snapshots, with kills at many moments, and where it is refused."""
import http.client
import os
import random
import signal
import threading

import pytest
from test_node import Unix, guest, log_has, node   # noqa: F401, pylint: disable=unused-import

KEYS = {"Idempotency-Key": "once"}


@pytest.fixture
def web(node, guest):   # noqa: F811, pylint: disable=redefined-outer-name
    """The document of an instance called web, whose guest is up."""
    node.ask("POST", "/v1/instances", {"name": "web", "labels": {"tier": "front"}, "spec": guest}, status=201)
    log_has(node, "web", "guest-is-up")
    return node.wait("/v1/instances/web", "running")


def rename(node, old, new, **how):      # noqa: F811
    return node.ask("POST", f"/v1/instances/{old}/rename", {"name": new}, **how)


def names(node):        # noqa: F811
    return [i["name"] for i in node.ask("GET", "/v1/instances")["items"]]


def said(node, name, line):     # noqa: F811
    node.viv("console", name, stdin=line + "\n")
    log_has(node, name, f"heard {line}")


def test_one_that_runs_goes_on(node, web):      # noqa: F811, pylint: disable=redefined-outer-name
    planned = node.ask("POST", "/v1/instances/web/rename?dry-run", {"name": "shop"})
    assert planned["name"] == "shop" and names(node) == ["web"]
    node.viv("rename", "web", "shop")
    shop = node.ask("GET", "/v1/instances/shop")
    assert names(node) == ["shop"] and "no instance 'web'" in node.viv("show", "web", status=7)
    assert {k: shop[k] for k in ("uid", "created", "labels", "spec")} == {k: web[k] for k in ("uid", "created", "labels", "spec")}
    assert shop["status"]["pid"] == web["status"]["pid"] and node.processes() == [shop["status"]["pid"]]
    log_has(node, "shop", "guest-is-up")
    said(node, "shop", "hello")
    # The name is free, and two things of the same past are two.
    node.ask("POST", "/v1/instances", {"name": "web", "spec": dict(web["spec"], state="stopped")}, status=201)
    node.kill()
    node.start()
    assert node.wait("/v1/instances/shop", "running")["status"]["pid"] == web["status"]["pid"]
    said(node, "shop", "again")
    node.ask("PATCH", "/v1/instances/shop", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
    node.wait("/v1/instances/shop", "stopped")
    node.viv("start", "shop")
    node.viv("rm", "-f", "shop", "web")
    node.wait_gone("/v1/instances/shop")
    node.wait_gone("/v1/instances/web")
    assert os.listdir(os.path.join(node.data, "instances")) == [] and node.processes() == []


def test_snapshots_go_along(node, guest, tmp_path):     # noqa: F811
    (tmp_path / "raw").write_bytes(b"image".ljust(1 << 20, b"\0"))
    node.viv("image", "import", str(tmp_path / "raw"), "base")
    node.ask("POST", "/v1/instances", {"name": "web", "spec": dict(guest, image="base", shutdown_seconds=0)}, status=201)
    node.wait("/v1/instances/web", "running")
    for name in ("one", "two"):
        node.viv("snapshot", "create", "web", name)
        node.wait(f"/v1/instances/web/snapshots/{name}", "ready")
    before = node.ask("GET", "/v1/instances/web/snapshots/two")
    node.viv("rename", "web", "shop")
    after = node.ask("GET", "/v1/instances/shop/snapshots/two")
    assert (after["uid"], after["instance"], after["status"]["state"]) == (before["uid"], "shop", "ready")
    assert "there is no instance" in node.ask("GET", "/v1/instances/web/snapshots", status=404)["error"]["message"]
    node.kill()
    node.start()
    assert [s["name"] for s in node.ask("GET", "/v1/instances/shop/snapshots")["items"]] == ["one", "two"]
    node.viv("snapshot", "revert", "shop", "two")
    node.viv("snapshot", "rm", "shop", "one")
    node.wait_gone("/v1/instances/shop/snapshots/one")
    node.wait("/v1/instances/shop/snapshots/two", "ready")
    node.ask("DELETE", "/v1/instances/shop", status=202)
    node.wait_gone("/v1/instances/shop")
    node.wait_gone("/v1/instances/shop/snapshots/two")


def test_one_that_has_powered_itself_off_stays_off(node, web):  # noqa: F811, pylint: disable=redefined-outer-name
    node.viv("console", "web", stdin="off\n")
    node.wait("/v1/instances/web", "stopped")
    node.viv("rename", "web", "shop")
    for _ in range(2):
        assert node.wait("/v1/instances/shop", "stopped")["spec"]["state"] == "running"
        assert "has ended by itself" in node.viv("why", "shop")
        node.kill()
        node.start()
    node.viv("start", "shop")
    assert node.processes() == [node.wait("/v1/instances/shop", "running")["status"]["pid"]]
    assert web["status"]["pid"] not in node.processes()


def test_a_request_may_be_sent_again(node, web):        # noqa: F811, pylint: disable=redefined-outer-name
    rename(node, "web", "shop", headers=KEYS)
    assert rename(node, "web", "shop")["uid"] == web["uid"]
    assert rename(node, "web", "shop", headers=KEYS)["uid"] == web["uid"]
    assert "another request" in rename(node, "web", "other", headers=KEYS, status=409)["error"]["message"]
    rename(node, "shop", "web")
    assert names(node) == ["web"]


def test_what_cannot_be_is_refused(node, web, guest):   # noqa: F811, pylint: disable=redefined-outer-name
    node.ask("POST", "/v1/instances", {"name": "db", "spec": dict(guest, state="stopped")}, status=201)
    for name, status, field in (("db", 409, "name"), ("web", 409, "name"), ("Wrong_Name", 400, "name"), ("", 400, "name")):
        assert rename(node, "web", name, status=status)["error"]["field"] == field
    assert node.ask("POST", "/v1/instances/web/rename", {}, status=400)["error"]["field"] == "name"
    assert "no instance 'nobody'" in rename(node, "nobody", "x", status=404)["error"]["message"]
    assert "already" in node.viv("rename", "web", "db", status=6)
    assert "'rename'" in node.ask("PATCH", "/v1/instances/web", {"name": "x"}, status=400)["error"]["message"]
    assert names(node) == ["db", "web"] and node.ask("GET", "/v1/instances/web")["status"]["pid"] == web["status"]["pid"]


def test_a_task_that_works_on_it_is_waited_for(node, web):      # noqa: F811, pylint: disable=redefined-outer-name
    # A machine that does not answer is neither on nor off, and a clone waits for it to be one of them.
    node.kill()
    os.kill(web["status"]["pid"], signal.SIGSTOP)
    node.start()
    task = node.ask("POST", "/v1/instances/web/clone", {"name": "copy"}, status=202)["name"]
    assert task in rename(node, "web", "shop", status=409)["error"]["message"]
    os.kill(web["status"]["pid"], signal.SIGCONT)
    node.wait(f"/v1/tasks/{task}", "done")
    rename(node, "web", "shop")
    rename(node, "copy", "web")
    assert names(node) == ["shop", "web"]


def test_the_daemon_is_killed_meanwhile(node, web):     # noqa: F811, pylint: disable=redefined-outer-name
    """It has one name at any time, that of the last answer or the one that was asked for, and its process goes on."""
    dice, name = random.Random(20261122), "web"

    def ask(old, new):
        conn = Unix(node.socket)
        try:
            conn.request("POST", f"/v1/instances/{old}/rename", f'{{"name": "{new}"}}')
            told.append(conn.getresponse().status)
        except (OSError, http.client.HTTPException):
            pass
        finally:
            conn.close()

    for n in range(20):
        told, new = [], f"n{n}"
        asks = threading.Thread(target=ask, args=(name, new))
        asks.start()
        asks.join(dice.random() * 0.02)
        node.kill()
        asks.join()
        node.start()
        assert names(node) in ([[new]] if 200 in told else [[name], [new]])
        name = names(node)[0]
        assert node.wait(f"/v1/instances/{name}", "running")["status"]["pid"] == web["status"]["pid"]
    assert node.processes() == [web["status"]["pid"]]
    said(node, name, "still-here")

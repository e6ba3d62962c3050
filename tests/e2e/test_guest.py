# SPDX-License-Identifier: Apache-2.0
"""viv exec, cp and guest: what is done inside a machine of the daemon's, by Debian's guest agent in it."""
import json
import os
import subprocess

import pytest
import vivguest
from test_agent import initrd  # noqa: F401
from test_node import guest, node  # noqa: F401
from test_usage import until

VIV = os.path.join(os.path.dirname(vivguest.VMM), "viv")


def viv(node, command, *args, status=0, stdin=None):
    """As Node.viv(), with options before what is passed on to a program."""
    done = subprocess.run([VIV, command, "--socket", node.socket, *args], capture_output=True, text=True, input=stdin, timeout=300,
                          check=False)
    assert done.returncode == status, (args, done.stdout, done.stderr)
    return done.stdout if status == 0 else done.stderr


@pytest.fixture
def web(node, initrd, bookworm):  # noqa: F811
    """A running machine 'web' whose agent answers."""
    spec = {"kernel": os.path.join(bookworm, "vmlinuz"), "initrd": initrd, "memory": "256M", "engine": "bt", "networks": [],
            "cmdline": "console=ttyS0 quiet cryptomgr.notests"}
    node.ask("POST", "/v1/instances", {"name": "web", "spec": spec}, status=201)
    node.wait("/v1/instances/web", "running")
    until(lambda: "error" not in node.get_any("/v1/instances/web/guest"), "the agent answers", 240)
    return node


def test_programs_are_run_and_files_copied(web, tmp_path):
    assert viv(web, "exec", "web", "--", "uname", "-s") == "Linux\n"
    assert viv(web, "exec", "-i", "web", "--", "sh", "-s", stdin="echo from-the-script\n") == "from-the-script\n"
    done = subprocess.run([VIV, "exec", "--socket", web.socket, "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7"],
                          capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert "no-such-program" in viv(web, "exec", "web", "no-such-program", status=1)
    # What the guest refuses is no failure of the daemon's.
    told = web.ask("POST", "/v1/instances/web/exec", {"program": "no-such-program"}, status=422)["error"]
    assert told["code"] == "refused" and "no-such-program" in told["message"]
    assert json.loads(viv(web, "exec", "--json", "web", "true"))["exit"] == 0

    there, back = tmp_path / "there is a name: with things", tmp_path / "back"
    there.write_bytes(os.urandom(100_000))
    os.chmod(there, 0o750)
    viv(web, "cp", str(there), "web:/mnt/a file")
    # Some pieces, one record.
    written = [r for r in web.ask("GET", "/v1/audit?limit=1000")["items"] if r["operation"] == "writeInstanceFile"]
    assert len(written) == 1 and written[0]["target"] == "web" and written[0]["file"].startswith("/mnt/") and written[0]["status"] == 200, written
    assert viv(web, "exec", "web", "--", "stat", "-c", "%a %s", "/mnt/a file") == "750 100000\n"
    viv(web, "cp", "web:/mnt/a file", str(back))
    assert back.read_bytes() == there.read_bytes()
    viv(web, "cp", "web:/mnt/a file", str(tmp_path) + "/")
    assert (tmp_path / "a file").read_bytes() == there.read_bytes()
    there.write_bytes(b"")
    viv(web, "cp", str(there), "web:/mnt/empty")
    assert viv(web, "exec", "web", "--", "wc", "-c", "/mnt/empty").startswith("0 ")


def test_what_cannot_be_done_is_said_and_leaves_nothing(web, tmp_path):
    viv(web, "exec", "web", "--", "sh", "-c", "mkdir /small && mount -t tmpfs -o size=256k none /small")
    (tmp_path / "big").write_bytes(b"x" * (1 << 20))
    assert viv(web, "cp", str(tmp_path / "big"), "web:/small/", status=1)
    assert viv(web, "exec", "web", "ls", "/small") == ""
    assert "directory" in viv(web, "cp", str(tmp_path), "web:/mnt/x", status=1)
    assert "/mnt/none" in viv(web, "cp", "web:/mnt/none", str(tmp_path / "none"), status=1)
    assert not [f for f in os.listdir(tmp_path) if "none" in f]
    for args in (("a", "b"), ("web:/a", "web:/b"), ("a", "web:relative")):
        assert viv(web, "cp", *args, status=1)
    assert "still runs" in viv(web, "exec", "-t", "1", "web", "sleep", "30", status=1)


def test_without_an_agent_that_is_said(node, guest):  # noqa: F811
    spec = guest | {"agent": False}
    node.ask("POST", "/v1/instances", {"name": "bare", "spec": spec}, status=201)
    node.wait("/v1/instances/bare", "running")
    assert "spec.agent" in viv(node, "exec", "bare", "true", status=9)
    node.ask("PATCH", "/v1/instances/bare", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
    node.wait("/v1/instances/bare", "stopped")
    assert "not running" in viv(node, "exec", "bare", "true", status=4)

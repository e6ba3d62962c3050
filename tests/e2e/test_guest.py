# SPDX-License-Identifier: Apache-2.0
"""viv exec, cp and guest: what is done inside a machine of the daemon's, by Debian's guest agent in it."""
import json
import os
import signal
import stat
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


def test_what_a_file_is_copied_to_stays_what_it_is(web, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.write_text("content")
    inside = lambda command: viv(web, "exec", "web", "--", "sh", "-c", command)
    # A directory inside, with '/' and without, and by a link to it; a link to a file stays one.
    inside("mkdir /d /e; ln -s /d /l; echo old >/e/file; ln -s file /e/link; mkdir /d/sub; mkfifo /e/pipe; mknod /e/node c 1 5")
    for at, to in enumerate(("/d", "/d/", "/l", "/d/new")):
        here.write_text(f"content {at}")
        viv(web, "cp", str(here), f"web:{to}")
        name = "new" if "new" in to else "here"
        assert inside(f"cat /d/{name}; echo; ls /d; rm -f /d/{name}").split("\n")[:-1] == [f"content {at}", name, "sub"]
    viv(web, "cp", str(here), "web:/e/link")
    assert inside("cat /e/file; ls -l /e/link | cut -c1").replace("\n", "") == "content 3l"
    # What is no file is left alone.
    for to in ("/e/pipe", "/e/node", "/dev/null"):
        assert "is not a file" in viv(web, "cp", str(here), f"web:{to}", status=6), to
    assert inside("ls -l /e/pipe /e/node /dev/null | cut -c1").split() == ["c", "c", "p"]
    assert viv(web, "cp", str(here), "web:/e/file/x", status=1) and inside("ls /e").split() == ["file", "link", "node", "pipe"]
    # And here: a link's file, a device, a pipe.
    os.symlink(there.name, tmp_path / "link")
    there.write_text("old")
    viv(web, "cp", "web:/e/file", str(tmp_path / "link"))
    assert there.read_text() == "content 3" and os.path.islink(tmp_path / "link")
    if os.geteuid() == 0:
        os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        viv(web, "cp", "web:/e/file", str(tmp_path / "null"))
        assert stat.S_ISCHR(os.stat(tmp_path / "null").st_mode)
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True) as cat:
        viv(web, "cp", "web:/e/file", str(tmp_path / "pipe"))
        assert cat.communicate(timeout=30)[0] == "content 3" and stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_several_copies_to_one_place_and_what_is_interrupted(web, tmp_path):
    texts = [bytes([65 + i]) * 200_000 for i in range(4)]
    for i, text in enumerate(texts):
        (tmp_path / f"f{i}").write_bytes(text)

    def all_at_once(*copies):
        many = [subprocess.Popen([VIV, "cp", "--socket", web.socket, *c]) for c in copies]
        assert [p.wait(120) for p in many] == [0] * len(many)
    all_at_once(*[(str(tmp_path / f"f{i}"), "web:/mnt/same") for i in range(4)])
    viv(web, "cp", "web:/mnt/same", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() in texts
    all_at_once(*[("web:/mnt/same", str(tmp_path / "back")) for _ in range(4)])
    assert (tmp_path / "back").read_bytes() in texts
    inside = viv(web, "exec", "web", "ls", "/mnt").split()
    files = sorted(os.listdir(tmp_path))
    # Of what has no end.
    for copy in (("web:/dev/zero", str(tmp_path / "endless")), ("/dev/zero", "web:/mnt/endless")):
        with subprocess.Popen([VIV, "cp", "--socket", web.socket, *copy], stderr=subprocess.PIPE, text=True) as cp:
            until(lambda: sorted(os.listdir(tmp_path)) != files or viv(web, "exec", "web", "ls", "/mnt").split() != inside, "it begins")
            cp.send_signal(signal.SIGINT)
            assert "interrupted" in cp.communicate(timeout=60)[1] and cp.returncode not in (0, None)
        assert sorted(os.listdir(tmp_path)) == files and viv(web, "exec", "web", "ls", "/mnt").split() == inside


def test_more_than_an_answer_can_have_is_told(web):
    assert "longer than a megabyte" in viv(web, "exec", "web", "--", "head", "-c", "20000000", "/dev/zero", status=1)
    told = web.ask("POST", "/v1/instances/web/exec", {"program": "head", "args": ["-c", "20000000", "/dev/zero"]}, status=422)["error"]
    assert told["code"] == "refused" and "megabyte" in told["message"]


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_machine_that_ends_before_its_agent_answers(web, how):
    pid = web.ask("GET", "/v1/instances/web")["status"]["pid"]
    with subprocess.Popen([VIV, "exec", "--socket", web.socket, "web", "--", "sh", "-c", "touch /begun; sleep 60"], stderr=subprocess.PIPE, text=True) as run:
        until(lambda: viv(web, "exec", "web", "--", "sh", "-c", "ls /begun 2>/dev/null; true"), "it runs")
        if how == "killed":
            os.kill(pid, signal.SIGKILL)
        else:
            web.ask("PATCH", "/v1/instances/web", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
        assert "the machine has ended" in run.communicate(timeout=60)[1] and run.returncode == 4


def test_without_an_agent_that_is_said(node, guest):  # noqa: F811
    spec = guest | {"agent": False}
    node.ask("POST", "/v1/instances", {"name": "bare", "spec": spec}, status=201)
    node.wait("/v1/instances/bare", "running")
    assert "spec.agent" in viv(node, "exec", "bare", "true", status=9)
    node.ask("PATCH", "/v1/instances/bare", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
    node.wait("/v1/instances/bare", "stopped")
    assert "not running" in viv(node, "exec", "bare", "true", status=4)

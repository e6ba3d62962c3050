# SPDX-License-Identifier: Apache-2.0
"""What `viv-vmm ctl` makes of its words: a listener in the place of a machine sees the requests."""
import base64
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
import vivguest


class Listener:
    """Answers each request with ANSWER and keeps them."""

    def __init__(self, path, answer):
        self.path, self.answer, self.requests = path, answer, []
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(8)
        self.asked, self.go = threading.Event(), threading.Event()
        self.go.set()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), conn, conn.makefile("rwb") as f:
                while head := f.read(4):
                    request = json.loads(f.read(struct.unpack("<I", head)[0]))
                    self.requests.append(request)
                    self.asked.set()
                    self.go.wait(60)
                    text = json.dumps({"result": self.answer, "id": request["id"]}).encode()
                    f.write(struct.pack("<I", len(text)) + text)
                    f.flush()

    def ctl(self, *args, status=0, data=None):
        self.requests.clear()
        done = subprocess.run([vivguest.VMM, "ctl", self.path, *args], input=data, capture_output=True, timeout=60, check=False)
        assert done.returncode == status, (args, done)
        return done

    def params(self, *args, status=0, data=None):
        self.ctl(*args, status=status, data=data)
        assert [r["request"] for r in self.requests] == ["agent-exec"]
        return self.requests[0]["params"]


@pytest.fixture
def machine(tmp_path):
    told = Listener(str(tmp_path / "s"), {"exit": 7, "out": base64.b64encode(b"out\n").decode(), "err": "", "truncated": False})
    yield told
    told.sock.close()


def test_all_words_behind_the_program_of_agent_exec_are_its_arguments(machine, tmp_path):
    assert machine.params("agent-exec", "sh", "A", "B", "C") == {"program": "sh", "args": ["A", "B", "C"]}
    assert machine.params("agent-exec", "true") == {"program": "true", "args": []}
    odd = ["-c", "echo $0", "--", "--input", "x", "--help", "if=/dev/zero", "", "ä b\n"]
    assert machine.params("agent-exec", "sh", *odd) == {"program": "sh", "args": odd}
    old = ["args=1", "input=eA==", "timeout=1", "--timeout=1", "--json", "program=x"]
    assert machine.params("agent-exec", "--", "-odd", *old) == {"program": "-odd", "args": old}
    assert machine.params("agent", "exec", "env", *old, status=7) == {"program": "env", "args": old}
    assert machine.params("agent", "exec", "--", "-odd", "--", status=7) == {"program": "-odd", "args": ["--"]}
    file = tmp_path / "what"
    file.write_bytes(b"\0\xff" * 100)
    asked = {"program": "cat", "args": ["-"], "input": base64.b64encode(file.read_bytes()).decode(), "timeout": 5}
    assert machine.params("agent-exec", "--input", file, "--timeout", "5", "cat", "-") == asked
    assert machine.params("agent", "exec", "--timeout", "5", "--input", "-", "--", "cat", "-", status=7, data=file.read_bytes()) == asked
    assert machine.ctl("agent", "exec", "x", status=7).stdout == b"out\n"
    assert json.loads(machine.ctl("agent-exec", "--json", "x").stdout)["result"]["exit"] == 7


def test_what_agent_exec_cannot_tell_for_sure_is_refused_with_what_to_write(machine, tmp_path):
    def said(*args):
        done = machine.ctl(*args, status=2)
        assert not machine.requests and not done.stdout
        return done.stderr.decode()

    # Written so once, in any place.
    assert "arguments stand behind PROGRAM" in said("agent-exec", "sleep", "args=100")
    assert "--timeout SECONDS stands before" in said("agent-exec", "sleep", "1", "timeout=1")
    assert "--input FILE stands before" in said("agent-exec", "cat", "-", "--input=eA==")
    assert "PROGRAM stands by itself" in said("agent-exec", "program=cat")
    assert "stands before PROGRAM" in said("agent-exec", "cat", "--json")
    # Wrong in itself.
    assert "program is missing" in said("agent-exec") and "program is missing" in said("agent", "exec", "--")
    assert "does not take '--fast'" in said("agent", "exec", "--fast", "cat") and "needs a value" in said("agent-exec", "--input")
    assert "twice" in said("agent-exec", "--timeout", "1", "--timeout", "2", "x") and "timeout" in said("agent-exec", "--timeout", "soon", "x")
    assert "No such file" in said("agent-exec", "--input", "/nonexistent", "cat")
    assert "must be text in UTF-8" in said("agent-exec", "cat", b"\xff") and "must be text in UTF-8" in said("agent", "exec", b"\xff")
    large = tmp_path / "large"
    large.write_bytes(bytes(30001))
    assert "agent write" in said("agent", "exec", "--input", large, "cat")
    os.truncate(large, 30000)
    assert len(machine.params("agent", "exec", "--input", large, "cat", status=7)["input"]) == 40000
    assert b"too long" in machine.ctl("agent", "exec", "cat", "x" * 70000, status=1).stderr
    assert b"too long" in machine.ctl("agent-exec", "cat", "x" * 70000, status=2).stderr and not machine.requests
    assert b"[--timeout SECONDS]" in machine.ctl("agent-exec", "--help").stdout
    assert b"[--timeout SECONDS]" in machine.ctl("agent", "exec", "--help").stdout


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_save_that_is_interrupted_leaves_no_file(machine, tmp_path, signo):
    state = tmp_path / "state"
    files = sorted(os.listdir(tmp_path))

    def interrupted(*args):
        machine.asked.clear()
        machine.go.clear()
        with subprocess.Popen([vivguest.VMM, "ctl", machine.path, "save", state, *args], stdout=subprocess.DEVNULL) as save:
            assert machine.asked.wait(30) and "state.tmp" in os.listdir(tmp_path)
            save.send_signal(signo)
            if args and signo != signal.SIGKILL:
                time.sleep(0.3)
                assert save.poll() is None          # the machine is in there, and nowhere else by and by
                machine.go.set()
            assert save.wait(30) == -signo
            if not args:
                until(files)
            machine.go.set()

    def until(what):
        end = time.monotonic() + 30
        while sorted(os.listdir(tmp_path)) != sorted(what):
            assert time.monotonic() < end, os.listdir(tmp_path)
            time.sleep(0.01)
    interrupted()
    # One that ends with it: the file is there, whoever waits for it.
    interrupted("--stop")
    until([*files, "state"])


def test_words_that_belong_nowhere_are_refused(machine, tmp_path):
    assert b"'save' does not take 'bogus=1'" in machine.ctl("save", tmp_path / "x", "bogus=1", status=2).stderr
    assert b"'unplug' does not take 'on'" in machine.ctl("unplug", "disk0", "on", status=2).stderr
    assert b"has no parameter 'bogus'" in machine.ctl("save", tmp_path / "x", "--bogus", status=2).stderr
    assert b"'agent-read' does not take '100'" in machine.ctl("agent-read", "/x", "100", status=2).stderr
    assert not machine.requests and os.listdir(tmp_path) == ["s"]

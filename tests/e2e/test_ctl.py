# SPDX-License-Identifier: Apache-2.0
"""What `viv-vmm ctl` makes of its words: a listener in the place of a machine sees the requests."""
import base64
import json
import os
import socket
import struct
import subprocess
import threading

import pytest
import vivguest


class Listener:
    """Answers each request with ANSWER and keeps them."""

    def __init__(self, path, answer):
        self.path, self.answer, self.requests = path, answer, []
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(8)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            with conn, conn.makefile("rwb") as f:
                while head := f.read(4):
                    request = json.loads(f.read(struct.unpack("<I", head)[0]))
                    self.requests.append(request)
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

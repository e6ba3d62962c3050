# SPDX-License-Identifier: Apache-2.0
"""The jail of a whole machine that root has started, seen from outside: every thread is in it."""
import os
import re
import subprocess

import pytest
import vivguest
from survival_devices import VIV
from test_pid_namespace import named_by
from test_saved_state import wait_for
from vivguest import Guest

NAMESPACES = ("user", "net", "mnt", "ipc", "uts", "cgroup", "pid")


def namespaces(of):
    return {name: os.readlink(f"/proc/{of}/ns/{name}") for name in NAMESPACES}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's machines have namespaces")
def test_every_thread_of_a_machine_with_an_encrypted_disk_is_in_the_jail(bookworm, tmp_path):
    """A passphrase takes threads, which are older than the jail."""
    key, image, sock = tmp_path / "key", tmp_path / "d.img", str(tmp_path / "s")
    key.write_text("correct horse")
    key.chmod(0o600)
    subprocess.run([VIV, "disk", "create", str(image), "8M", "--format", "qcow2", "-o", "encrypt.format=luks", "--key-file", str(key)],
                   check=True)
    ours = namespaces("self")
    with Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--initrd", vivguest.initrd("bookworm", "dd if=/dev/vda of=/dev/null; sh", "read"),
               "--cmdline", "console=ttyS0 quiet", "--memory", "256M", "--cpus", "2", "--disk", f"path={image},key-file={key}", "--net", "none",
               "--console", "stdio", "--engine", "bt", "--control", sock) as guest:
        wait_for(guest, sock)
        guest.expect("VIV-BOOT-OK", 60)
        guest.expect("records out", 60)         # deciphered by threads
        tids = os.listdir(f"/proc/{guest.pid}/task")
        assert len(tids) > 3
        for tid in tids:
            theirs = namespaces(f"{guest.pid}/task/{tid}")
            assert not [name for name in NAMESPACES if theirs[name] == ours[name]], tid
            with open(f"/proc/{guest.pid}/task/{tid}/status", encoding="ascii") as f:
                status = f.read()
            assert re.search(r"^Uid:\s+65534\s+65534\s+65534\s+65534$", status, re.M), tid
            assert re.search(r"^NoNewPrivs:\s+1$", status, re.M) and re.search(r"^Seccomp:\s+2$", status, re.M), tid
            assert re.search(r"^CapEff:\s+0+$", status, re.M), tid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to drop")
def test_who_is_beside_a_machine_is_confined_too(bookworm, tmp_path, monkeypatch):
    """Who removes its sockets, starts passt, waits in front of it and connects to a disk's server again."""
    monkeypatch.setenv("VIV_PLUGINS", os.path.join(vivguest.ROOT, "build/src/blk/proto"))
    image, sock, nbd = tmp_path / "d.img", str(tmp_path / "s"), str(tmp_path / "nbd")
    subprocess.run([VIV, "disk", "create", str(image), "8M", "--format", "raw"], check=True, stdout=subprocess.DEVNULL)
    with subprocess.Popen([VIV, "disk", "serve", "--nbd", f"unix:{nbd}", str(image)], stdout=subprocess.PIPE) as server:
        assert server.stdout.readline()
        try:
            with Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--initrd", vivguest.initrd("bookworm", "sh", "beside"), "--cmdline",
                       "console=ttyS0 quiet", "--memory", "128M", "--disk", f"path=nbd+unix:///?socket={nbd}", "--net", "user", "--console",
                       "stdio", "--engine", "bt", "--control", sock) as guest:
                guest.expect("VIV-BOOT-OK", 60)
                beside = named_by(sock)
                assert sorted(beside.values()) == ["viv-dial", "viv-front", "viv-janitor", "viv-keeper", "viv-vmm"], beside
                for pid, name in beside.items():
                    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
                        told = {key: value.strip() for key, value in (line.split(":", 1) for line in f)}
                    assert told["NoNewPrivs"] == "1" and told["Seccomp"] == "2", (name, told)
                groups = {name: open(f"/proc/{pid}/cgroup", encoding="ascii").read() for pid, name in beside.items()}
                assert groups["viv-dial"] == groups["viv-keeper"] == groups["viv-vmm"], groups
        finally:
            server.kill()

# SPDX-License-Identifier: Apache-2.0
"""`viv ssh`: which ssh is started, with which keys, and what the guest is told by its agent. The ssh is one that writes down how."""
import json
import os
import subprocess
import time

import pytest
import vivguest
from test_node import BUILD, guest, log_has, node  # noqa: F401

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG9uZW9mdGhlZ3Vlc3Rzb3duYW5kbm9vbmVlbHNlcw guest"
INIT = f"""
mkdir -p /etc/ssh /root /run /usr/local/var/run
echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd
echo '{HOST_KEY}' >/etc/ssh/ssh_host_ed25519_key.pub
for p in /sys/class/virtio-ports/*; do
    [ "$(cat $p/name)" = org.qemu.guest_agent.0 ] && port=/dev/${{p##*/}}
done
/usr/sbin/qemu-ga -m virtio-serial -p $port -t /run &
echo "guest-is-up"
while read -r line; do
    echo "keys $(grep -c ssh-ed25519 /root/.ssh/authorized_keys) $(ls -ld /root/.ssh | cut -c1-10)"
done
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user without any key, for whom 'ssh' tells its words."""
    tool = tmp_path / "bin" / "ssh"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\nfor w in "$@"; do echo "$w"; done\nexit 42\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "viv"


def viv_ssh(node, *words, status=0):  # noqa: F811
    """What follows '--' is the machine's, so the socket is named before."""
    done = subprocess.run([os.path.join(BUILD, "viv"), "ssh", "--socket", node.socket, *words], capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == status, (words, done.stdout, done.stderr)
    return done.stdout


def boot(node, guest, **more):  # noqa: F811
    spec = {**guest, "networks": [{"kind": "user", "forwards": ["tcp:127.0.0.1:22022:22"]}], **more}
    return node.ask("POST", "/v1/instances", {"name": "a", "spec": spec}, status=201)["uid"]


def test_the_host_key_is_the_one_that_the_agent_tells(node, guest, home, tmp_path):  # noqa: F811
    assert os.path.exists("/usr/sbin/qemu-ga"), "the package qemu-guest-agent is not installed"
    files = vivguest.libraries("/usr/sbin/qemu-ga") | {"/usr/sbin/qemu-ga": "/usr/sbin/qemu-ga"}
    initrd = vivguest.initrd_with(vivguest.initrd("bookworm", INIT, "ssh"), str(tmp_path / "initrd"), files)
    uid = boot(node, guest, initrd=initrd)
    log_has(node, "a", "guest-is-up", 180)
    end = time.monotonic() + 120
    while not (told := json.loads(node.viv("ssh", "a", "--json")))["pinned"]:
        assert time.monotonic() < end
        time.sleep(0.5)
    assert told["host"] == "127.0.0.1" and told["port"] == 22022
    assert (home / "known" / uid).read_text() == f"{uid} {HOST_KEY}\n"
    assert f"-oUserKnownHostsFile={home}/known/{uid}" in told["command"] and f"-oHostKeyAlias={uid}" in told["command"]
    assert "-oStrictHostKeyChecking=yes" in told["command"]
    # Twice, and viv's own key is let in once. The exit status is that of ssh.
    assert (home / "ssh" / "id_ed25519").stat().st_mode & 0o777 == 0o600
    assert viv_ssh(node, "a", "--", "uname", "-a", status=42).endswith("127.0.0.1\nuname\n-a\n")
    node.viv("console", "a", stdin="look\n")
    log_has(node, "a", "keys 1 drwx------")


def test_without_an_agent_a_key_of_ones_own_and_an_address(node, guest, home):  # noqa: F811
    uid = boot(node, guest, agent=False)
    node.wait("/v1/instances/a", "running")
    told = json.loads(viv_ssh(node, "-l", "me", "-i", "/nowhere/key", "a", "--json", "--", "echo", "two words"))
    assert told["command"] == ["ssh", "-i", "/nowhere/key", "-oIdentitiesOnly=yes", f"-oHostKeyAlias={uid}",
                               f"-oUserKnownHostsFile={home}/known/{uid}", "-oStrictHostKeyChecking=accept-new", "-oPort=22022",
                               "-oUser=me", "--", "127.0.0.1", "echo", "two words"]
    assert not told["pinned"] and not (home / "ssh").exists()
    node.viv("set", "a", "shutdown_seconds=0")
    node.viv("stop", "a")
    assert "is not running; start it first" in node.viv("ssh", "a", status=4)
    node.ask("PATCH", "/v1/instances/a", {"spec": {"networks": [{"kind": "none"}], "state": "running"}})
    node.wait("/v1/instances/a", "running")
    assert "forward a port" in node.viv("ssh", "a", status=1)
    assert "no instance 'b'" in node.viv("ssh", "b", status=7)

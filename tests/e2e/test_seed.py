# SPDX-License-Identifier: Apache-2.0
"""What instances are told about themselves, as a kernel reads it. A Debian that does what it is told: test_node.py."""
import os

import pytest
import vivguest
from test_node import log_has, node  # noqa: F401

INIT = """
mount -t iso9660 -o ro /dev/vda /mnt
for f in meta-data network-config user-data; do echo "--- $f"; cat /mnt/$f; done
ls /mnt | tr '\\n' ' '
echo "read-only: $(cat /sys/block/vda/ro)"
# A kernel that is powered off takes with it what its terminal has not sent yet.
sleep 100000
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample me@example.org"


@pytest.mark.parametrize("size", [20, 60000])
def test_a_kernel_reads_the_disk(node, tmp_path, size):  # noqa: F811
    folder = vivguest.kernel("bookworm")
    data = "#!/bin/sh\n: " + "x" * size + "\necho the-end\n"
    spec = {"kernel": os.path.join(folder, "vmlinuz"), "cmdline": "console=ttyS0 quiet cryptomgr.notests", "memory": "128M",
            "initrd": vivguest.initrd("bookworm", INIT, "seed", modules=["isofs"]), "engine": "bt", "networks": [],
            "ssh_keys": [KEY], "user_data": data, "restart": "never"}
    made = node.ask("POST", "/v1/instances", {"name": "told", "spec": spec}, status=201)
    log_has(node, "told", "read-only: 1")
    said = node.ask("GET", "/v1/instances/told/log").decode().replace("\r", "")
    assert f'instance-id: i-{made["uid"]}\nlocal-hostname: told\npublic-keys:\n  - "{KEY}"\n' in said
    assert "dhcp4: true" in said and data in said
    assert "meta-data network-config user-data read-only: 1" in said


def test_what_cannot_be_told(node):  # noqa: F811
    refuse = lambda **spec: node.ask("POST", "/v1/instances", {"name": "x", "spec": dict(spec, kernel="/dev/null")},
                                     status=400)["error"]["field"]
    assert refuse(ssh_keys=["hello"]) == "spec.ssh_keys[0]"
    assert refuse(ssh_keys=[KEY, KEY + "\nuser: x"]) == "spec.ssh_keys[1]"
    assert refuse(user_data="hello") == "spec.user_data"
    assert refuse(user_data="#!" + "x" * (64 << 10)) == "spec.user_data"

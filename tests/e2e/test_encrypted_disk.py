# SPDX-License-Identifier: Apache-2.0
"""A guest on an encrypted qcow2 image; without its key, and with a wrong one, a sentence."""
import os
import shutil
import subprocess

import pytest

import vivguest
from vivguest import Guest

pytestmark = pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img (package qemu-utils) is missing")


def machine(disk, run="true"):
    return ["--kernel", os.path.join(vivguest.kernel("bookworm"), "vmlinuz"), "--initrd",
            vivguest.initrd("bookworm", run, "encrypted"), "--cmdline", "console=ttyS0 quiet", "--memory", "256M",
            "--engine", "bt", "--console", "stdio", "--net", "none", "--disk", disk]


def test_a_guest_reads_and_writes_an_encrypted_image(tmp_path):
    disk, key, other = tmp_path / "d.qcow2", tmp_path / "key", tmp_path / "other"
    key.write_text("correct horse")
    other.write_text("correct horse\n")
    for k in (key, other):
        k.chmod(0o600)
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "--object", f"secret,id=s,file={key}", "-o",
              "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", disk, "16M"]
    # On a busy host it now and then measures no processor time for its key derivation, and gives up.
    assert any(subprocess.run(create, check=False).returncode == 0 for _ in range(30))
    run = """
set -e
yes PLAINTEXT-OF-THE-GUEST | head -c 1048576 >/tmp/t
dd if=/tmp/t of=/dev/vda bs=64k seek=3 conv=fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/vda bs=64k skip=3 count=16 2>/dev/null | cmp - /tmp/t
echo ENCRYPTED-OK
"""
    with Guest(*machine(f"path={disk},key-file={key}", run)) as guest:
        guest.expect(r"ENCRYPTED-OK", 240)
        assert guest.wait(60) == 0
    assert b"PLAINTEXT-OF-THE-GUEST" not in disk.read_bytes()
    plain = subprocess.run(["qemu-io", "--object", f"secret,id=s,file={key}", "--image-opts",
                            f"driver=qcow2,file.filename={disk},encrypt.key-secret=s", "-c", "read -v 192k 32"],
                           capture_output=True, text=True, check=True).stdout
    assert "PLAINTEXT.OF.THE" in plain
    for more, says in [("", "is encrypted; give its passphrase"), (f",key-file={other}", "opens no key slot"),
                       (f",key-file={tmp_path}/none", "cannot open the passphrase's file")]:
        done = subprocess.run([vivguest.VMM, *machine(f"path={disk}{more}")], capture_output=True, text=True, timeout=60,
                              check=False)
        assert done.returncode != 0 and says in done.stderr and "horse" not in done.stderr

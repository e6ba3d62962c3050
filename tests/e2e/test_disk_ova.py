# SPDX-License-Identifier: Apache-2.0
"""`viv disk ova`: machines in archives and unpacked, read, taken out, imported and made."""
import hashlib
import json
import os
import subprocess
import xml.etree.ElementTree

from disk_rig import (   # noqa: F401, pylint: disable=unused-import
    EXISTS, FAILED, MIB, NOT_FOUND, UNSUPPORTED, in_folder, make_raw, needs_qemu_img, only, qemu, refused,
    same, viv, viv_json)

pytestmark = needs_qemu_img


def make_ova(path, sizes):
    """As GNU tar makes one: a descriptor, its manifest, and a streamOptimized VMDK per disk."""
    files, disks = "", ""
    for i, size in enumerate(sizes):
        make_raw(f"in{i}.raw", size, i + 10)
        qemu("convert", "-O", "vmdk", "-o", "subformat=streamOptimized", f"in{i}.raw", f"d{i}.vmdk")
        files += f'<File o:id="f{i}" o:href="d{i}.vmdk"/>'
        disks += f'<Disk o:diskId="disk-{i}" o:fileRef="f{i}" o:capacity="{size}"/>'
    ns = "http://schemas.dmtf.org/ovf/envelope/1"
    with open("m.ovf", "w", encoding="ascii") as f:
        f.write(f'<Envelope xmlns="{ns}" xmlns:o="{ns}"><References>{files}</References><DiskSection>{disks}</DiskSection>'
                '<VirtualSystem o:id="appliance"><Info/><Name>appliance</Name></VirtualSystem></Envelope>')
    names = ["m.ovf", *(f"d{i}.vmdk" for i in range(len(sizes)))]
    with open("m.mf", "w", encoding="ascii") as f:
        for name in names:
            f.write(f"SHA256({name})= {hashlib.sha256(open(name, 'rb').read()).hexdigest()}\n")
    subprocess.run(["tar", "--format=ustar", "-cf", path, "m.ovf", "m.mf", *names[1:]], check=True)


def test_a_machine_that_is_unpacked_is_listed_and_imported_by_its_descriptor():
    os.mkdir("web")
    make_ova("a.ova", [2 * MIB, 3 * MIB])
    subprocess.run(["tar", "-C", "web", "-xf", "a.ova"], check=True)
    listed, packed = viv_json("ova", "list", "web/m.ovf"), viv_json("ova", "list", "a.ova")
    assert listed == packed | {"manifest": False}
    viv("ova", "import", "web/m.ovf", "new")
    for i in (0, 1):
        qemu("compare", "-f", "qcow2", "-F", "raw", f"new/disk{i + 1}.qcow2", f"in{i}.raw")
    refused("ova", "extract", "web/m.ovf", "1", "x", status=FAILED, says="beside it already")
    refused("ova", "list", "web/m.ovf", "--verify", status=UNSUPPORTED, says="descriptor")
    os.rename("web/d1.vmdk", "elsewhere")
    refused("ova", "list", "web/m.ovf", status=NOT_FOUND, says="web/d1.vmdk")
    os.symlink("../elsewhere", "web/d1.vmdk")           # nothing from elsewhere comes in
    refused("ova", "import", "web/m.ovf", "n2", status=FAILED, says="no file")
    assert not os.path.exists("n2")


def test_archives_of_machines_are_listed_extracted_and_imported():
    make_ova("a.ova", [2 * MIB, 3 * MIB])
    listed = viv_json("ova", "list", "a.ova", "--verify")
    assert listed["manifest"] and [d["capacity"] for d in listed["disks"]] == [2 * MIB, 3 * MIB]
    assert "d1.vmdk" in viv("ova", "list", "a.ova").stdout
    for which, n in (("1", 0), ("disk-1", 1)):
        viv("ova", "extract", "a.ova", which, "out.vmdk", "--force")
        assert open("out.vmdk", "rb").read() == open(f"d{n}.vmdk", "rb").read()
    refused("ova", "extract", "a.ova", "1", "out.vmdk", status=EXISTS, says="--force")
    refused("ova", "extract", "a.ova", "3", "x", status=NOT_FOUND, says="no disk '3'")
    viv("ova", "import", "a.ova", "new", "--verify")
    assert sorted(os.listdir("new")) == ["disk1.qcow2", "disk2.qcow2", "machine.json"]
    with open("new/machine.json", encoding="utf-8") as f:
        machine = json.load(f)
    assert [d["image"] for d in machine["disks"]] == ["disk1.qcow2", "disk2.qcow2"]
    for i in (0, 1):
        qemu("compare", "-f", "qcow2", "-F", "raw", f"new/disk{i + 1}.qcow2", f"in{i}.raw")
    refused("ova", "import", "a.ova", "new", status=EXISTS, says="choose another name")
    refused("ova", "import", "a.ova", "n2", "--format", "vmkd", status=FAILED, says="vmkd")
    refused("ova", "list", "in0.raw", status=FAILED, says="in0.raw")
    with open("a.ova", "r+b") as f:
        f.seek(-20000, os.SEEK_END)
        f.write(b"\x55" * 2000)
    refused("ova", "list", "a.ova", "--verify", status=FAILED, says="d1.vmdk")
    refused("ova", "import", "a.ova", "n2", "--verify", status=FAILED, says="d1.vmdk")
    assert not os.path.exists("n2")
    os.truncate("a.ova", os.path.getsize("a.ova") // 2)
    assert viv("ova", "import", "a.ova", "n2", status=FAILED).stderr
    assert not os.path.exists("n2")


def test_disks_are_packed_into_an_archive_for_other_products():
    make_raw("one.raw", 3 * MIB, 1)
    viv("create", "two.qcow2", "--backing", "one.raw", "--backing-format", "raw")
    os.umask(0o027)
    made = viv_json("ova", "create", "web.ova", "one.raw", "two.qcow2", "--cpus", "2", "--memory", "3G")
    assert made == {"filename": "web.ova", "name": "web", "disks": 2, "length": os.path.getsize("web.ova")}
    assert os.stat("web.ova").st_mode & 0o777 == 0o640
    only("one.raw", "two.qcow2", "web.ova")
    listed = viv_json("ova", "list", "web.ova", "--verify")
    assert (listed["name"], listed["cpus"], listed["memory"]) == ("web", 2, 3072 * MIB)
    os.mkdir("out")
    names = ["web.ovf", "web-disk1.vmdk", "web-disk2.vmdk", "web.mf"]
    assert subprocess.run(["tar", "-xvf", "../web.ova"], cwd="out", capture_output=True, text=True, check=True).stdout.split() == names
    with open("out/web.mf", encoding="ascii") as f:
        for line in f:
            name, digest = line[7:].split(")= ")
            assert hashlib.sha256(open("out/" + name, "rb").read()).hexdigest() == digest.strip()
    for name in names[1:3]:
        qemu("compare", "-q", "-f", "vmdk", "-F", "raw", "out/" + name, "one.raw")
    # The schema of hardware items is a sequence: elements in the order of the alphabet, each item with its own number.
    space = "{http://schemas.dmtf.org/ovf/envelope/1}"
    items = [[(e.tag.split("}")[1], e.text) for e in item] for item in xml.etree.ElementTree.parse("out/web.ovf").iter(space + "Item")]
    assert len(items) == 5 and all(i == sorted(i) for i in items) and len({dict(i)["InstanceID"] for i in items}) == 5
    assert [dict(i)["HostResource"] for i in items if dict(i)["ResourceType"] == "17"] == ["ovf:/disk/disk1", "ovf:/disk/disk2"]
    viv("ova", "create", "web.ova", "one.raw", "--name", "db & more", "--force")
    assert viv_json("ova", "list", "web.ova")["name"] == "db & more"
    viv("ova", "import", "web.ova", "back")
    same("back/disk1.qcow2", "one.raw")
    refused("ova", "create", "x.ova", "one.raw", "--name", "../x", status=FAILED, says="cannot name a machine")

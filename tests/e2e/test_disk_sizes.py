# SPDX-License-Identifier: Apache-2.0
"""`viv disk measure` and `resize`: sizes told before they are needed, and images that grow and shrink."""
import json
import os
import random
import subprocess

import pytest

from disk_rig import (   # noqa: F401, pylint: disable=unused-import
    DENIED, FAILED, KIB, MIB, UNSUPPORTED, clean, in_folder, make_raw, needs_qemu_img, qemu, refused, same,
    viv, viv_json)

pytestmark = needs_qemu_img


def test_resizing_asks_before_it_cuts():
    viv("create", "a.qcow2", "1M")
    assert viv_json("resize", "a.qcow2", "+1M")["virtual-size"] == 2 * MIB
    refused("resize", "a.qcow2", "1M", status=DENIED, says="--shrink")
    viv("resize", "a.qcow2", "--shrink", "--", "-1M")
    assert json.loads(qemu("info", "--output=json", "a.qcow2"))["virtual-size"] == MIB
    clean("a.qcow2")


@pytest.mark.parametrize("options", ["data_file=a.data", "data_file=a.data,data_file_raw=on"])
def test_an_image_with_a_data_file_grows_and_shrinks_to_sizes_that_are_no_clusters(options):
    make_raw("in.raw", 7 * MIB + 512)
    viv("convert", "in.raw", "a.qcow2", "-o", options)
    viv("resize", "a.qcow2", 9 * MIB + 1024)
    os.truncate("in.raw", 9 * MIB + 1024)
    same("a.qcow2", "in.raw")
    viv("resize", "a.qcow2", "--shrink", 5 * MIB + 512)
    viv("resize", "a.qcow2", 6 * MIB)
    os.truncate("in.raw", 5 * MIB + 512)
    os.truncate("in.raw", 6 * MIB)
    same("a.qcow2", "in.raw")
    clean("a.qcow2")
    if "raw" in options:
        qemu("compare", "-q", "-f", "raw", "-F", "raw", "a.data", "in.raw")


@pytest.mark.parametrize("options", ["cluster_size=64K", "cluster_size=4K", "extended_l2=on", "refcount_bits=64"])
def test_measure_agrees_with_qemu_img(options):
    qemu("create", "-q", "-f", "qcow2", "in.qcow2", "300M")
    subprocess.run(["qemu-io", "-c", "write 1M 5M", "-c", "write 200M 64k", "in.qcow2"], check=True, capture_output=True)
    ours = viv_json("measure", "in.qcow2", "--format", "qcow2", "-o", options)
    theirs = json.loads(qemu("measure", "--output=json", "-O", "qcow2", "-o", options, "in.qcow2"))
    assert ours["fully-allocated"] <= theirs["fully-allocated"]
    viv("convert", "in.qcow2", "out.qcow2", "-o", options)
    assert os.path.getsize("out.qcow2") <= ours["required"] <= theirs["required"]


def size_of_all(prefix):
    return sum(os.path.getsize(f) for f in os.listdir(".") if f.startswith(prefix))


MEASURED = [("vdi", "static=off"), ("vdi", "block_size=64K"), ("vdi", "static=on"), ("vpc", "subformat=dynamic"),
            ("vpc", "subformat=dynamic,block_size=64K"), ("vpc", "force_size=off"), ("vpc", "subformat=fixed"),
            ("vhdx", "subformat=dynamic"), ("vhdx", "block_size=1M,log_size=3M"), ("vhdx", "subformat=fixed"),
            ("parallels", "preallocation=off"), ("parallels", "cluster_size=64K"), ("parallels", "preallocation=metadata"),
            ("vmdk", "subformat=monolithicSparse"), ("vmdk", "subformat=monolithicFlat"), ("vmdk", "subformat=vmfs"),
            ("vmdk", "subformat=twoGbMaxExtentSparse"), ("vmdk", "subformat=twoGbMaxExtentFlat")]


@pytest.mark.parametrize("form, options", MEASURED)
def test_images_of_blocks_are_as_large_as_measured(form, options):
    size = 5 << 30 if "twoGb" in options else 37 * MIB + 5 * KIB
    with open("in.raw", "wb") as f:                     # no unit of any format begins or ends where the data does
        for at, n in ((MIB + 4096, 3 * MIB), (20 * MIB - 4096, 8192), (size - 300, 300)):
            f.seek(at)
            f.write(random.Random(at).randbytes(n))
    slack = 0 if form != "vmdk" or "monolithicSparse" in options else 2 * KIB   # names in a descriptor of its own
    told = viv_json("measure", "in.raw", "--format", form, "-o", options)
    viv("convert", "in.raw", "out." + form, "--format", form, "-o", options)
    assert size_of_all("out") <= told["required"] <= size_of_all("out") + slack
    new = viv_json("measure", "--size", size, "--format", form, "-o", options)
    viv("create", "new." + form, size, "--format", form, "-o", options)
    assert size_of_all("new") <= new["required"] <= size_of_all("new") + slack
    assert new["fully-allocated"] == told["fully-allocated"] >= told["required"] >= new["required"]


@pytest.mark.parametrize("form", ["vdi", "vpc", "vhdx", "parallels", "vmdk"])
def test_full_images_are_as_large_as_measured(form):
    with open("in.raw", "wb") as f:
        f.write(random.Random(1).randbytes(16 * MIB + 512))
    told = viv_json("measure", "in.raw", "--format", form)
    viv("convert", "in.raw", "out", "--format", form)
    assert os.path.getsize("out") == told["required"] == told["fully-allocated"]


def test_packed_images_are_at_most_as_large_as_measured():
    with open("in.raw", "wb") as f:
        f.write(random.Random(1).randbytes(8 * MIB))
        f.truncate(40 * MIB)
    told = viv_json("measure", "in.raw", "--format", "vmdk", "-o", "subformat=streamOptimized")
    viv("convert", "in.raw", "out.vmdk", "-o", "subformat=streamOptimized")
    assert os.path.getsize("out.vmdk") <= told["required"] <= os.path.getsize("out.vmdk") * 1.02    # noise


def test_what_cannot_be_made_is_not_measured():
    refused("measure", "--size", "3T", "--format", "vpc", status=FAILED, says="2040 GiB")
    refused("measure", "--size", "1G", "--format", "vdi", "-o", "block_size=5000", status=FAILED, says="power of two")
    refused("measure", "--size", "65T", "--format", "vhdx", status=FAILED, says="64 TiB")
    refused("measure", "--size", "1G", "--format", "vmdk", "-o", "preallocation=full", status=FAILED, says="flat")
    refused("measure", "--size", "1G", "--format", "vhd", status=FAILED, says="vpc")


@pytest.mark.parametrize("kind", ["monolithicSparse", "monolithicFlat", "vmfs"])
@pytest.mark.parametrize("size, larger", [(1000 * KIB, 40 * MIB), (40 * MIB, 41 * MIB), (99 * MIB, 600 * MIB)])
def test_vmdk_images_grow(kind, size, larger):
    make_raw("in.raw", 1000 * KIB)
    os.truncate("in.raw", size)
    viv("convert", "in.raw", "a.vmdk", "-o", "subformat=" + kind)
    viv("resize", "a.vmdk", larger)
    os.truncate("in.raw", larger)
    same("in.raw", "a.vmdk")
    for at in (size - 4096, size, larger // 2 & -4096, larger - 4096):
        subprocess.run(["qemu-io", "-f", "vmdk", "-c", f"write -P 7 {at} 4096", "a.vmdk"], check=True, capture_output=True)
        subprocess.run(["qemu-io", "-f", "raw", "-c", f"write -P 7 {at} 4096", "in.raw"], check=True, capture_output=True)
    same("in.raw", "a.vmdk")
    viv("check", "a.vmdk")
    with open("a.vmdk", "rb") as f:
        assert f"\nRW {larger // 512} ".encode() in f.read(2048)
    viv("resize", "a.vmdk", "+512")
    assert viv_json("info", "a.vmdk")["virtual-size"] == larger + 512


@pytest.mark.parametrize("kind", ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_split_vmdk_images_grow_by_extents(kind):
    viv("create", "a.vmdk", "3G", "--format", "vmdk", "-o", "subformat=" + kind)
    before = set(os.listdir("."))
    viv("resize", "a.vmdk", "5G")
    assert len(set(os.listdir(".")) - before) == 1
    assert viv_json("info", "a.vmdk")["virtual-size"] == 5 << 30
    assert json.loads(qemu("info", "--output=json", "a.vmdk"))["virtual-size"] == 5 << 30


def test_what_of_vmdk_cannot_grow_is_refused():
    viv("create", "a.vmdk", "3G", "--format", "vmdk", "-o", "subformat=streamOptimized", "--force")
    refused("resize", "a.vmdk", "4G", status=UNSUPPORTED, says="streamOptimized")
    viv("create", "base.vmdk", "2M", "--format", "vmdk")
    viv("create", "child.vmdk", "1M", "--format", "vmdk", "--backing", "base.vmdk", "--backing-format", "vmdk")
    refused("resize", "child.vmdk", "2M", status=UNSUPPORTED, says="parent image is larger")
    viv("create", "c.vmdk", "1M", "--format", "vmdk")
    refused("resize", "c.vmdk", "--shrink", "512K", status=UNSUPPORTED, says="grow, not shrink")
    with open("c.vmdk", "r+b") as f:                    # a descriptor without a comment to take letters from
        text = f.read(512 + 20 * 512)[512:].replace(b"# The Disk Data Base", b"x The Disk Data Base").replace(b"#DDB", b"xDDB")
        f.seek(512)
        f.write(text)
    refused("resize", "c.vmdk", "1G", status=UNSUPPORTED, says="no room")
    viv("resize", "c.vmdk", "4M")                       # as many digits


@pytest.mark.parametrize("options", ["version=1", "version=2", "version=2,sector_size=4096"])
def test_encrypted_images_are_as_large_as_measured(options):
    with open("key", "w", encoding="ascii") as f:
        os.fchmod(f.fileno(), 0o600)
        f.write("key")
    ours = viv_json("measure", "--size", "4M", "--format", "luks", "-o", options)
    viv("create", "d", "4M", "--format", "luks", "-o", options + ",iter-time=10", "--key-file", "key")
    assert os.path.getsize("d") == ours["required"] == ours["fully-allocated"]
    for _ in range(10 if options == "version=1" else 0):
        done = subprocess.run(["qemu-img", "measure", "--output=json", "--object", "secret,id=s,data=key", "-O", "luks", "-o",
                               "key-secret=s,iter-time=10", "--size", "4M"], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:                         # it measures its processor's time, and says when it cannot
            continue
        theirs = json.loads(done.stdout)["required"]
        assert theirs <= ours["required"] < theirs + MIB        # ours is aligned
        break
    refused("measure", "--size", "4M", "--format", "ova", status=UNSUPPORTED, says="not known before")

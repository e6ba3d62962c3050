# SPDX-License-Identifier: Apache-2.0
"""`viv disk`: every command on real images, with qemu-img as the judge; refusals, statuses and interruptions."""
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from disk_rig import (   # noqa: F401, pylint: disable=unused-import
    BUSY, DENIED, DIFFERENT, DONE, EXISTS, FAILED, INTERRUPTED, KIB, MIB, NOT_FOUND, NO_SPACE, ROOT,
    UNSUPPORTED, USAGE, VIV, clean, in_folder, make_raw, needs_qemu_img, only, qemu, refused, same, viv,
    viv_json)

pytestmark = needs_qemu_img


def test_a_snapshot_may_need_more_in_a_row_than_one_block_of_counters_counts(tmp_path):
    disk = str(tmp_path / "d.qcow2")
    viv("create", "-o", "cluster_size=512", disk, "3G")
    for offset in ("0", "1G", "2G"):
        subprocess.run(["qemu-io", "-c", f"write -P 0x5a {offset} 4k", disk], check=True, capture_output=True)
    for name in ("one", "two"):
        viv("snapshot", "create", disk, name)
        subprocess.run(["qemu-io", "-c", "write -P 0x77 1G 4k", disk], check=True, capture_output=True)
        subprocess.run(["qemu-img", "check", disk], check=True, capture_output=True)
    viv("snapshot", "revert", disk, "one")
    subprocess.run(["qemu-io", "-c", "read -P 0x5a 1G 4k", disk], check=True, capture_output=True)
    for name in ("one", "two"):
        viv("snapshot", "rm", disk, name)
    viv("check", disk)
    subprocess.run(["qemu-img", "check", disk], check=True, capture_output=True)
    assert os.stat(disk).st_blocks < 64 << 11


def test_created_images_are_what_was_asked_for():
    viv("create", "a.qcow2", "1G", "-o", "cluster_size=128K,lazy_refcounts=on")
    info = json.loads(qemu("info", "--output=json", "a.qcow2"))
    assert info["virtual-size"] == 1 << 30 and info["cluster-size"] == 128 * KIB
    assert info["format-specific"]["data"]["lazy-refcounts"]
    viv("create", "b.img", "3M")
    assert os.path.getsize("b.img") == 3 * MIB
    viv("create", "clone.qcow2", "--backing", "a.qcow2")
    chain = viv_json("info", "--chain", "clone.qcow2")
    assert chain["virtual-size"] == 1 << 30 and chain["backing"]["filename"] == "a.qcow2"
    assert "backing image   " in viv("info", "clone.qcow2").stdout
    clean("a.qcow2")


def test_what_exists_is_not_overwritten_without_force():
    viv("create", "a.qcow2", "1M")
    refused("create", "a.qcow2", "2M", status=EXISTS, says="--force")
    viv("create", "a.qcow2", "2M", "--force")
    make_raw("in.raw")
    refused("convert", "in.raw", "a.qcow2", status=EXISTS, says="--force")
    viv("convert", "in.raw", "a.qcow2", "--force")
    same("in.raw", "a.qcow2")


@pytest.mark.parametrize("fmt, ending, options", [
    ("vmdk", ".vmdk", "subformat=monolithicFlat"), ("vmdk", ".vmdk", "subformat=twoGbMaxExtentSparse"),
    ("vmdk", ".vmdk", "subformat=twoGbMaxExtentFlat"), ("parallels", ".xml", "bundle=on,cluster_size=64K"),
    ("qcow2", ".qcow2", None)])
def test_an_image_of_several_files_is_replaced(fmt, ending, options):
    make_raw("one.raw", seed=1)
    make_raw("two.raw", seed=2)
    convert = ["--format", fmt, "--force", *(["-o", options] if options else [])]
    image = "d" + ending
    viv("convert", "one.raw", image, *convert)
    n_files = len(os.listdir("."))
    for source in ("two.raw", "one.raw", "two.raw"):
        viv("convert", source, image, *convert)
        same(source, image) if ending != ".xml" else viv("compare", source, image)
        assert len(os.listdir(".")) == n_files
    # Killed at any moment, it is the one or the other.
    begin = time.monotonic()
    viv("convert", "one.raw", image, *convert)
    whole = time.monotonic() - begin
    rng = random.Random(1)
    for i in range(8):
        job = subprocess.Popen([VIV, "disk", "convert", ("two.raw", "one.raw")[i & 1], image, *convert], stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, whole))
        job.kill()
        job.wait()
        assert any(viv_json("compare", source, image, status=None)["identical"] for source in ("one.raw", "two.raw"))
    viv("convert", "one.raw", image, *convert)
    viv("compare", "one.raw", image)
    # Another kind of image in its place: nothing of it stays.
    for name in os.listdir("."):
        if name.startswith(".") or (name.endswith((".vmdk", ".hds")) and name != image):
            os.unlink(name)
    viv("convert", "two.raw", image, *convert)
    viv("convert", "one.raw", image, "--format", "qcow2", "--force")
    only("one.raw", "two.raw", image)


def test_replacing_an_image_takes_no_file_that_is_not_its_own():
    make_raw("in.raw")
    viv("convert", "in.raw", "d.vmdk", "-o", "subformat=monolithicFlat")
    # The disk to convert is an extent of what is replaced.
    viv("convert", "d-flat.vmdk", "d.vmdk", "--source-format", "raw", "--format", "vmdk", "--force")
    same("in.raw", "d.vmdk")
    only("in.raw", "d.vmdk", "d-flat.vmdk")
    # Whoever made the image has named a file that is none of its extents.
    os.rename("d-flat.vmdk", "letter.txt")
    size = os.path.getsize("letter.txt")
    with open("d.vmdk", "w") as f:
        f.write('# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
                f'RW {size // 512} FLAT "letter.txt" 0\n')
    same("in.raw", "d.vmdk")
    viv("convert", "in.raw", "d.vmdk", "--force")
    only("in.raw", "d.vmdk", "letter.txt")
    # Data files have the name that was asked for: another one has to be asked for.
    viv("convert", "in.raw", "q.qcow2", "-o", "data_file=q.data")
    refused("convert", "in.raw", "q.qcow2", "-o", "data_file=q.data", "--force", status=EXISTS, says="'q.data': File exists")
    same("in.raw", "q.qcow2")
    viv("convert", "in.raw", "q.qcow2", "-o", "data_file=p.data", "--force")
    same("in.raw", "q.qcow2")


@pytest.fixture(name="device")
def loop_device():
    """A loop device of 16 MiB, full of ones."""
    with open("device.img", "wb") as f:
        f.write(b"\xff" * (16 * MIB))
    made = subprocess.run(["losetup", "--find", "--show", "device.img"], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"not permitted to make a loop device: {made.stderr.strip()}")
    yield made.stdout.strip()
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


@pytest.mark.parametrize("fmt, options", [("qcow2", ""), ("qcow2", "cluster_size=4K,extended_l2=off,lazy_refcounts=on"), ("raw", ""),
                                          ("qcow2", "encrypt.format=luks,encrypt.iter-time=1"), ("luks", "version=1,iter-time=1")])
def test_a_disk_is_converted_to_a_block_device(device, fmt, options):
    make_raw("in.raw")
    with open("key", "w") as f:
        f.write("secret")
    os.chmod("key", 0o600)
    is_secret = "iter-time" in options
    keys = ["--new-key-file", "key"] if is_secret else []
    argv = ["convert", "in.raw", device, "--format", fmt, *(["-o", options] if options else []), *keys]
    refused(*argv, status=EXISTS, says="--force")
    viv(*argv, "--force")
    viv("convert", device, "out.raw", *(["--key-file", "key"] if is_secret else []), "--source-format", fmt)
    os.truncate("out.raw", 8 * MIB)                     # raw and LUKS take all of the device
    same("in.raw", "out.raw")
    if fmt == "qcow2" and not is_secret:
        clean(device)
        viv("snapshot", "create", device, "one")
        clean(device)


def test_a_conversion_to_a_block_device_is_refused_before_anything_is_written(device):
    before = open("device.img", "rb").read()
    rng = random.Random(1)
    with open("in.raw", "wb") as f:
        f.write(rng.randbytes(16 * MIB))
    for fmt in ("qcow2", "luks"):
        with open("key", "w") as f:
            f.write("secret")
        os.chmod("key", 0o600)
        refused("convert", "in.raw", device, "--format", fmt, "--force", *(["--new-key-file", "key"] if fmt == "luks" else []),
                status=NO_SPACE, says="nothing was written")
    os.truncate("in.raw", 17 * MIB)
    refused("convert", "in.raw", device, "--format", "raw", "--force", status=NO_SPACE, says="nothing was written")
    for fmt in ("vmdk", "vdi", "vpc", "vhdx", "parallels"):
        refused("convert", "in.raw", device, "--format", fmt, "--force", status=FAILED, says="is a block device")
        refused("create", device, "1M", "--format", fmt, "--force", status=FAILED, says="is a block device")
    refused("convert", "in.raw", device, "--format", "qcow2", "-o", "data_file=x", "--force", status=FAILED, says="is a block device")
    claim = os.open(device, os.O_RDONLY | os.O_EXCL)    # as who mounts it
    refused("convert", "in.raw", device, "--format", "raw", "--force", status=BUSY, says="it is mounted")
    os.close(claim)
    assert open("device.img", "rb").read() == before
    # Compressed data may be small. Where it turns out not to be, nobody takes a part for the whole.
    refused("convert", "in.raw", device, "--format", "qcow2", "--compress", "--force", status=NO_SPACE, says="No space left")
    assert viv_json("info", device)["format"] == "raw"
    os.truncate("in.raw", 4 * MIB)
    os.truncate("in.raw", 1 << 30)
    viv("convert", "in.raw", device, "--format", "qcow2", "--force")
    same("in.raw", device)


def on_terminal(*argv):
    """(standard output, what a terminal at standard error was told)"""
    ours, theirs = os.openpty()
    with subprocess.Popen([VIV, "disk", *argv], stdout=subprocess.PIPE, stderr=theirs) as program:
        os.close(theirs)
        said = b""
        try:
            while data := os.read(ours, 65536):
                said += data
        except OSError:                 # the other end is closed
            pass
        out = program.stdout.read()
    os.close(ours)
    assert program.returncode == DONE, said
    return out, said


def test_a_terminal_is_told_how_far_a_command_is():
    viv("create", "a.qcow2", "512G", "-o", "preallocation=metadata")
    viv("create", "a.raw", "1M")
    viv("create", "b.qcow2", "1M")
    make_raw("in.raw")
    for argv, what, says in [(["check", "a.qcow2"], b"checking", b"nothing is wrong"),
                             (["resize", "a.raw", "40M", "--preallocation", "full"], b"reserving", b"a disk of 40 MiB"),
                             (["resize", "b.qcow2", "9M", "--preallocation", "full"], b"reserving", b"a disk of 9 MiB"),
                             (["measure", "in.raw"], b"measuring", b"a qcow2 image of it takes"),
                             (["map", "in.raw"], b"looking", b"zeroes")]:
        out, said = on_terminal(*argv)
        assert says in out and b"\r" + what + b" [" in said and said.endswith(b"\x1b[K"), (argv, said)
    assert os.stat("a.raw").st_blocks * 512 >= 40 * MIB - 1 * MIB
    clean("b.qcow2")


@pytest.mark.parametrize("name", ["a.raw", "a.qcow2"])
def test_a_reservation_that_is_interrupted_leaves_a_good_image(name):
    make_raw("in.raw", MIB)
    viv("convert", "in.raw", name)
    job = subprocess.Popen([VIV, "disk", "resize", name, "1500M", "--preallocation", "full"], stderr=subprocess.PIPE)
    while os.path.getsize(name) < 4 * MIB and job.poll() is None:
        time.sleep(0.001)
    job.send_signal(signal.SIGINT)
    said = job.stderr.read()
    if job.wait() == DONE:
        pytest.skip("it was over before it could be interrupted")
    assert job.returncode == INTERRUPTED and b"interrupted" in said
    size = viv_json("info", name)["virtual-size"]
    assert size == (MIB if name == "a.raw" else 1500 * MIB)
    os.truncate("in.raw", size)
    same("in.raw", name)
    if name == "a.qcow2":
        clean(name)


def test_wrong_words_are_refused():
    refused("create", "x.qcow2", status=FAILED, says="how large")
    refused("create", "x.qcow2", "12parsecs", status=FAILED, says="12parsecs")
    refused("create", "x.qcow2", "1M", "-o", "cluster_siz=4K", status=FAILED, says="did you mean")
    refused("create", "x.qcow2", "1M", "--format", "vmkd", status=FAILED, says="known are")
    refused("create", "x.qcow2", "1M", "--sice", "1", status=USAGE, says="unknown option")
    refused("info", "nothing", status=NOT_FOUND, says="nothing")
    refused("map", status=USAGE, says="FILE is missing")
    only()


def test_a_raw_backing_image_that_looks_like_another_format_is_not_believed():
    viv("create", "base.qcow2", "1M")
    os.rename("base.qcow2", "base.img")
    refused("create", "top.qcow2", "--backing", "base.img", status=FAILED, says="--backing-format qcow2")
    viv("create", "top.qcow2", "--backing", "base.img", "--backing-format", "raw")
    only("base.img", "top.qcow2")


@pytest.mark.parametrize("options", [
    ["--format", "qcow2"], ["--format", "raw"], ["--format", "qcow2", "-o", "cluster_size=512"],
    ["--format", "qcow2", "-o", "cluster_size=2M"], ["--format", "qcow2", "-o", "extended_l2=on"],
    ["--format", "qcow2", "-o", "compat=0.10"], ["--format", "qcow2", "-o", "data_file=out.data"],
    ["--format", "qcow2", "--compress"], ["--format", "qcow2", "--compress", "-o", "compression_type=zstd"],
    ["--format", "qcow2", "--compress", "-o", "cluster_size=512"],
])
def test_converted_disks_hold_the_same(options):
    make_raw("in.raw", 9 * MIB + 2560)
    viv("convert", "in.raw", "out", *options)
    same("in.raw", "out")
    if "raw" not in options:
        clean("out")
    viv("convert", "out", "back.img")
    assert open("in.raw", "rb").read() == open("back.img", "rb").read()
    assert os.stat("back.img").st_blocks <= os.stat("in.raw").st_blocks
    only("in.raw", "out", "back.img", *(["out.data"] if "data_file=out.data" in options else []))


def test_an_image_of_a_stranger_brings_no_file_from_elsewhere():
    os.makedirs("near/below")
    for name in ("secret.raw", "near/base.raw", "near/below/base.raw"):
        make_raw(name, MIB)
    outside = os.path.abspath("secret.raw")
    for i, backing in enumerate((outside, "../secret.raw", "below/../../secret.raw")):
        viv("create", f"near/{i}.qcow2", "--backing", backing, "--backing-format", "raw")
    os.symlink(outside, "near/link.raw")
    viv("create", "near/3.qcow2", "--backing", "link.raw", "--backing-format", "raw")
    viv("create", "near/4.qcow2", "1M", "-o", f"data_file={outside}.data")
    viv("create", "near/5.qcow2", "--backing", "0.qcow2", "--backing-format", "qcow2")
    viv("create", "near/6.vmdk", "1M", "-o", "subformat=monolithicFlat")
    with open("near/6.vmdk", "r+b") as f:
        text = f.read().replace(b'"6-flat.vmdk"', b'"../secret.raw"')
        f.seek(0)
        f.write(text)
    for name in ("0.qcow2", "1.qcow2", "2.qcow2", "3.qcow2", "4.qcow2", "5.qcow2", "6.vmdk"):
        refused("convert", "--confined", "near/" + name, "out.raw", status=DENIED, says="not below its own directory")
        viv("convert", "near/" + name, "out.raw", "--force")
        os.unlink("out.raw")
    for name, backing in (("near/7.qcow2", "base.raw"), ("near/8.qcow2", "below/base.raw")):
        viv("create", name, "--backing", backing, "--backing-format", "raw")
        viv("convert", "--confined", name, "out.raw", "--force")
        same("out.raw", name)


def test_a_chain_becomes_one_image():
    make_raw("base.img")
    viv("create", "top.qcow2", "10M", "--backing", "base.img")
    subprocess.run(["qemu-io", "-c", "write -P 7 1M 100k", "-c", "write -z 2M 1M", "-c", "write -P 9 9M 64k", "top.qcow2"],
                   check=True, capture_output=True)
    viv("convert", "top.qcow2", "one.qcow2")
    same("top.qcow2", "one.qcow2")
    assert "backing-filename" not in viv_json("info", "one.qcow2")


def test_an_interrupted_conversion_leaves_nothing():
    with open("in.raw", "wb") as f:
        for _ in range(96):
            f.write(random.randbytes(MIB))
    proc = subprocess.Popen([VIV, "disk", "convert", "in.raw", "out.qcow2", "--compress"], stderr=subprocess.PIPE, text=True)
    while proc.poll() is None and len(os.listdir(".")) < 2:
        time.sleep(0.01)
    proc.send_signal(signal.SIGINT)
    assert "interrupted" in proc.communicate(timeout=60)[1]
    assert proc.returncode == INTERRUPTED
    only("in.raw")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_no_space_left_is_one_sentence_and_leaves_nothing():
    os.mkdir("small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", "small"], check=True)
    try:
        with open("in.raw", "wb") as f:
            f.write(random.randbytes(8 * MIB))
        for more in ([], ["--compress"], ["--format", "raw"]):
            refused("convert", "in.raw", "small/out", *more, status=NO_SPACE, says="No space left")
            assert os.listdir("small") == []
        viv("create", "small/top.qcow2", "--backing", os.path.abspath("in.raw"))
        before = viv_json("map", "small/top.qcow2")
        assert "make room" in viv("flatten", "small/top.qcow2", status=NO_SPACE).stderr
        assert viv_json("compare", "small/top.qcow2", "in.raw")["identical"], before
    finally:
        subprocess.run(["umount", "small"], check=True)


def test_a_file_in_use_is_left_alone():
    viv("create", "a.qcow2", "1M")
    with open("a.qcow2", "r+b") as f:
        lock = b"\x01\x00" + bytes(6) + bytes(16) + bytes(8)      # struct flock: F_WRLCK, SEEK_SET, all of it
        fcntl.fcntl(f, 37, lock)                                    # F_OFD_SETLK
        for command in (["resize", "a.qcow2", "2M"], ["check", "a.qcow2"], ["snapshot", "create", "a.qcow2", "x"],
                        ["create", "a.qcow2", "1M", "--force"], ["convert", "a.qcow2", "b.qcow2"], ["flatten", "a.qcow2"]):
            refused(*command, status=BUSY, says="in use")
        viv("info", "a.qcow2")
    only("a.qcow2")


def test_broken_chains_are_named():
    viv("create", "a.qcow2", "1M")
    viv("create", "b.qcow2", "--backing", "a.qcow2")
    os.unlink("a.qcow2")
    refused("map", "b.qcow2", status=NOT_FOUND, says="a.qcow2")
    viv("info", "b.qcow2")
    qemu("create", "-q", "-f", "qcow2", "a.qcow2", "1M")
    viv("rebase", "-u", "a.qcow2", "b.qcow2")
    refused("map", "a.qcow2", status=FAILED, says="comes back to it")


def test_unknown_features_are_named():
    viv("create", "a.qcow2", "1M")
    with open("a.qcow2", "r+b") as f:
        f.seek(72)
        f.write((1 << 40).to_bytes(8, "big"))
    refused("info", "a.qcow2", status=UNSUPPORTED, says="40")


def test_map_agrees_with_qemu_img():
    make_raw("base.img", 4 * MIB)
    qemu("convert", "-O", "qcow2", "base.img", "base.qcow2")
    viv("create", "top.qcow2", "5M", "--backing", "base.qcow2")
    subprocess.run(["qemu-io", "-c", "write -P 7 1M 128k", "-c", "write -z 2M 1M", "top.qcow2"], check=True, capture_output=True)

    def ranges(listed):
        return {e["start"] + i * 64 * KIB: (e["data"], e["depth"] if e["data"] else 0)
                for e in listed for i in range((e["length"] + 64 * KIB - 1) // (64 * KIB))}
    assert ranges(viv_json("map", "top.qcow2")) == ranges(json.loads(qemu("map", "--output=json", "top.qcow2")))
    assert "data at" in viv("map", "top.qcow2").stdout


def test_snapshots_come_and_go():
    make_raw("in.raw")
    viv("convert", "in.raw", "a.qcow2")
    assert viv_json("snapshot", "create", "a.qcow2", "one")["id"] == "1"
    subprocess.run(["qemu-io", "-c", "write -P 7 0 4M", "a.qcow2"], check=True, capture_output=True)
    viv("snapshot", "create", "a.qcow2", "two")
    assert [s["name"] for s in viv_json("snapshot", "list", "a.qcow2")] == ["one", "two"]
    assert "two" in qemu("snapshot", "-l", "a.qcow2") and "two" in viv("snapshot", "list", "a.qcow2").stdout
    refused("snapshot", "create", "a.qcow2", "two", status=EXISTS, says="two")
    viv("snapshot", "revert", "a.qcow2", "one")
    same("in.raw", "a.qcow2")
    viv("snapshot", "rm", "a.qcow2", "one")
    refused("snapshot", "rm", "a.qcow2", "one", status=NOT_FOUND, says="one")
    clean("a.qcow2")


def test_commit_brings_changes_to_the_backing_image():
    make_raw("base.img", 4 * MIB)
    viv("create", "top.qcow2", "5M", "--backing", "base.img")
    subprocess.run(["qemu-io", "-c", "write -P 7 1M 100k", "-c", "write -z 2M 1M", "-c", "write -P 9 4200k 64k", "top.qcow2"],
                   check=True, capture_output=True)
    viv("convert", "top.qcow2", "want.raw", "--format", "raw")
    viv("commit", "top.qcow2")
    same("base.img", "want.raw")
    same("top.qcow2", "want.raw")
    assert all(e["depth"] == 1 or not e["data"] for e in viv_json("map", "top.qcow2"))
    refused("commit", "base.img", status=FAILED, says="no backing image")


def test_rebase_and_flatten_change_no_byte():
    make_raw("one.img", 4 * MIB, 1)
    make_raw("two.img", 3 * MIB, 2)
    viv("create", "top.qcow2", "5M", "--backing", "one.img")
    subprocess.run(["qemu-io", "-c", "write -P 7 1M 100k", "top.qcow2"], check=True, capture_output=True)
    viv("convert", "top.qcow2", "want.img")
    viv("rebase", "top.qcow2", "two.img")
    assert viv_json("info", "top.qcow2")["backing-filename"] == "two.img"
    same("top.qcow2", "want.img")
    viv("flatten", "top.qcow2")
    os.unlink("one.img")
    os.unlink("two.img")
    same("top.qcow2", "want.img")
    clean("top.qcow2")
    viv("create", "mid.qcow2", "--backing", "top.qcow2")
    refused("rebase", "top.qcow2", "mid.qcow2", status=BUSY, says="cannot be behind itself")


def test_compare_finds_the_first_difference():
    make_raw("a.raw")
    shutil.copy("a.raw", "b.raw")
    os.truncate("b.raw", 12 * MIB)
    assert viv_json("compare", "a.raw", "b.raw") == {"identical": True}
    with open("b.raw", "r+b") as f:
        f.seek(5 * MIB + 5000)
        was = f.read(1)
        f.seek(5 * MIB + 5000)
        f.write(bytes([was[0] ^ 1]))
    assert viv_json("compare", "a.raw", "b.raw", status=DIFFERENT) == {"identical": False, "offset": 5 * MIB + 4096}


def test_damage_is_found_and_repaired():
    make_raw("in.raw")
    viv("convert", "in.raw", "a.qcow2")
    with open("a.qcow2", "r+b") as f:
        f.seek(2 * 64 * KIB + 2 * 20)   # reference counts of some clusters
        f.write(b"\0\0\0\3\0\0")
    found = viv_json("check", "a.qcow2", status=DIFFERENT)
    assert found["errors"] and found["leaks"]
    viv("check", "--repair", "a.qcow2")
    clean("a.qcow2")
    same("in.raw", "a.qcow2")


def test_bitmaps_are_made_and_removed():
    viv("create", "a.qcow2", "1M")
    viv("bitmap", "add", "a.qcow2", "daily", "--granularity", "32K")
    viv("bitmap", "add", "a.qcow2", "weekly")
    refused("bitmap", "add", "a.qcow2", "daily", status=EXISTS, says="daily")
    refused("bitmap", "add", "a.qcow2", "odd", "-g", "3000", status=FAILED, says="power of 2")
    listed = {m["name"]: m["granularity"] for m in json.loads(qemu("info", "--output=json", "a.qcow2"))
              ["format-specific"]["data"]["bitmaps"]}
    assert listed == {"daily": 32 * KIB, "weekly": 64 * KIB}
    viv("bitmap", "clear", "a.qcow2", "daily")
    viv("bitmap", "rm", "a.qcow2", "daily")
    refused("bitmap", "rm", "a.qcow2", "daily", status=NOT_FOUND, says="daily")
    clean("a.qcow2")


def test_bench_measures_and_writes_only_when_told():
    make_raw("in.raw")
    viv("convert", "in.raw", "a.qcow2")
    told = viv_json("bench", "a.qcow2", "--seconds", "1", "--depth", "4")
    assert told["requests"] > 0 and told["requests-per-second"] > 0 and told["latency-median-us"] <= told["latency-99-us"]
    same("in.raw", "a.qcow2")
    assert "requests/s" in viv("bench", "a.qcow2", "--write", "--sequential", "--size", "64K", "--seconds", "1").stdout
    clean("a.qcow2")
    refused("bench", "a.qcow2", "--depth", "0", status=FAILED, says="--depth")
    refused("bench", "a.qcow2", "--size", "100", status=FAILED, says="512")


def test_bitmaps_are_listed():
    viv("create", "a.qcow2", "1M")
    assert viv_json("bitmap", "list", "a.qcow2") == []
    qemu("bitmap", "--add", "-g", "64K", "a.qcow2", "daily")
    listed = viv_json("bitmap", "list", "a.qcow2")
    assert [m["name"] for m in listed] == ["daily"]
    assert "daily" in viv("bitmap", "list", "a.qcow2").stdout


@pytest.mark.parametrize("options", [["--format", "luks"], ["--format", "qcow2", "-o", "encrypt.format=luks"]])
def test_encrypted_images_need_their_key(options):
    make_raw("in.raw", 2 * MIB)
    for name, text in (("key", "correct horse"), ("wrong", "battery staple")):
        with open(name, "w") as f:
            f.write(text)
        os.chmod(name, 0o600)
    viv("convert", "in.raw", "out", *options, "-o", "key-file=key")
    viv("compare", "in.raw", "out", "--key-file", "key")
    viv("info", "out")
    refused("map", "out", status=DENIED, says="--key-file")
    refused("map", "out", "--key-file", "wrong", status=DENIED, says="out")
    assert b"correct horse" not in open("out", "rb").read()
    viv("convert", "out", "back.img", "--key-file", "key")
    same("in.raw", "back.img")


@pytest.mark.parametrize("fmt,layers", [("vmdk", True), ("vhdx", False), ("vpc", False)])
def test_commit_of_images_that_know_their_parent_by_its_content(fmt, layers):
    make_raw("in.raw")
    viv("convert", "in.raw", "base", "--format", fmt)
    viv("create", "top", "--format", fmt, "--backing", "base", "--backing-format", fmt)
    viv("create", "other", "--format", fmt, "--backing", "base", "--backing-format", fmt)
    subprocess.run([os.path.join(ROOT, "build/tests/blk/tool"), "write", "top", fmt, "1M", "300K", "7"], check=True, timeout=60)
    viv("convert", "top", "want.raw")
    assert "keeps a copy" in viv("commit", "top").stdout
    viv("compare", "base", "want.raw")
    viv("compare", "top", "want.raw")               # it is still accepted over what it has changed itself
    if fmt != "vpc":                                # whose identity says nothing about the content
        refused("map", "other", status=FAILED, says="has been changed since")
    if layers:
        qemu("compare", "-q", "-f", fmt, "-F", "raw", "top", "want.raw")


@pytest.mark.parametrize("options,kind", [(["--format", "luks", "-o", "iter-time=10"], "luks"),
                                          (["--format", "luks", "-o", "version=1,iter-time=10"], "luks"),
                                          (["--format", "qcow2", "-o", "encrypt.format=luks,encrypt.iter-time=10"], "qcow2")])
def test_passphrases_are_added_changed_and_removed(options, kind):
    os.umask(0o077)
    for name in ("one", "two", "three"):
        with open(name, "w", encoding="ascii") as f:
            f.write(name)

    def opens(name):
        if kind == "qcow2":
            image = ["--object", f"secret,id=s,file={name}", "--image-opts", "driver=qcow2,file.filename=d,encrypt.key-secret=s"]
            done = subprocess.run(["qemu-io", *image, "-c", "read 0 512"], capture_output=True, timeout=60, check=False)
        else:
            done = subprocess.run(["cryptsetup", "luksOpen", "-q", "--test-passphrase", "--key-file", name, "d"],
                                  capture_output=True, timeout=60, check=False)
        return not done.returncode

    viv("create", "d", "4M", *options, "--key-file", "one")
    assert viv_json("key", "add", "d", "--key-file", "one", "--new-key-file", "two", "-o", "iter-time=10")["slot"] == 1
    assert [opens(k) for k in ("one", "two", "three")] == [True, True, False]
    assert viv_json("key", "change", "d", "--key-file", "one", "--new-key-file", "three", "-o", "iter-time=10")["slot"] == 2
    assert [opens(k) for k in ("one", "two", "three")] == [False, True, True]
    assert [s["slot"] for s in viv_json("key", "list", "d") if s["opens-disk"]] == [1, 2]
    viv("key", "rm", "d", "1", "--key-file", "three")
    assert [opens(k) for k in ("one", "two", "three")] == [False, False, True]
    refused("key", "rm", "d", "2", "--key-file", "three", status=DENIED, says="the last one")
    refused("key", "rm", "d", "7", "--key-file", "three", status=NOT_FOUND, says="is not used")
    refused("key", "add", "d", "--key-file", "three", status=FAILED, says="--new-key-file")


def test_a_converted_disk_is_encrypted():
    make_raw("in.raw")
    for name in ("one", "two"):
        with open(name, "w", encoding="ascii") as f:
            f.write(name)
        os.chmod(name, 0o600)
    quick = "encrypt.format=luks,encrypt.iter-time=10"
    viv("convert", "in.raw", "a.qcow2", "-o", quick, "--new-key-file", "one")
    viv("convert", "a.qcow2", "b.luks", "-o", "iter-time=10", "--key-file", "one", "--new-key-file", "two")
    viv("convert", "a.qcow2", "c.qcow2", "-o", quick, "--key-file", "one")
    for name, key in (("a.qcow2", "one"), ("b.luks", "two"), ("c.qcow2", "one")):
        assert viv_json("compare", name, "in.raw", "--key-file", key)["identical"]
        refused("compare", name, "in.raw", "--key-file", {"one": "two", "two": "one"}[key], status=DENIED, says="no key slot")

# SPDX-License-Identifier: Apache-2.0
"""What every command of `viv disk` refuses, as a table: commands in rows, what is wrong in columns. Each refusal has its
status, one sentence that names what is wrong, the same in JSON, and leaves the files as they were."""
import fcntl
import hashlib
import os
import random
import re
import struct
import subprocess

import pytest

from disk_rig import BUSY, DENIED, EXISTS, FAILED, MIB, NO_SPACE, NOT_FOUND, UNSUPPORTED, VIV, refused, viv, viv_json

# What is needed of an image: just its header, its bytes with all that is behind it, or to be changed.
HEADER = {
    "info": ["info", "FILE"], "check": ["check", "FILE"], "snapshot list": ["snapshot", "list", "FILE"],
    "bitmap list": ["bitmap", "list", "FILE"],
}
READING = {
    "map": ["map", "FILE"], "convert": ["convert", "FILE", "out"], "compare": ["compare", "FILE", "other"],
    "measure": ["measure", "FILE"], "bench": ["bench", "FILE", "--seconds", "1"],
    "ova create": ["ova", "create", "out", "FILE"],
    "serve --read-only": ["serve", "FILE", "--read-only", "--nbd", "unix:s"],
}
CHANGING = {
    "snapshot create": ["snapshot", "create", "FILE", "a"], "snapshot revert": ["snapshot", "revert", "FILE", "s"],
    "snapshot rm": ["snapshot", "rm", "FILE", "s"], "commit": ["commit", "FILE"], "rebase": ["rebase", "FILE", "other"],
    "flatten": ["flatten", "FILE"], "resize": ["resize", "FILE", "+1M"], "bitmap add": ["bitmap", "add", "FILE", "b"],
    "bitmap rm": ["bitmap", "rm", "FILE", "b"], "bitmap clear": ["bitmap", "clear", "FILE", "b"],
    "bench --write": ["bench", "FILE", "--write", "--seconds", "1"], "serve": ["serve", "FILE", "--nbd", "unix:s"],
}
ALONE = {"check --repair": ["check", "--repair", "FILE"], "rebase --unsafe": ["rebase", "--unsafe", "FILE", "other"]}
KEYS = {
    "key add": ["key", "add", "FILE", "--new-key-file", "new"], "key rm": ["key", "rm", "FILE", "0"],
    "key change": ["key", "change", "FILE", "--new-key-file", "new"],
}
KEY_LIST = {"key list": ["key", "list", "FILE"]}
ARCHIVES = {"ova list": ["ova", "list", "FILE"], "ova extract": ["ova", "extract", "FILE", "1", "out"],
            "ova import": ["ova", "import", "FILE", "out"]}
CHAIN = READING | CHANGING
ALL = HEADER | CHAIN | ALONE | KEYS | KEY_LIST


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.umask(0o077)
    for name in ("key", "new", "wrong"):
        with open(name, "w", encoding="ascii") as f:
            f.write(name)
    viv("create", "other", "4M", "--format", "raw")


def header(path, off, fmt, value):
    with open(path, "r+b") as f:
        f.seek(off)
        f.write(struct.pack(fmt, value))


def sums():
    return {f: hashlib.sha256(open(f, "rb").read()).hexdigest() for f in os.listdir() if os.path.isfile(f)}


def all_refuse(table, file, status, says, *more):
    """Each of TABLE on FILE; nothing appears, goes or changes."""
    before = sums()
    for name, words in table.items():
        refused(*[file if w == "FILE" else w for w in words], *more, status=status, says=says)
        assert sums() == before, name


def test_a_file_that_is_not_there():
    all_refuse(ALL | ARCHIVES, "nothing", NOT_FOUND, "nothing")


def test_an_unknown_feature_bit_is_named():
    viv("create", "image", "4M", "--format", "qcow2")
    header("image", 72, ">Q", 1 << 40)
    all_refuse(ALL, "image", UNSUPPORTED, "40")


def test_an_unknown_version_is_named_and_not_taken_for_raw():
    viv("create", "image", "4M", "--format", "qcow2")
    header("image", 4, ">I", 0x1234)
    all_refuse(ALL, "image", UNSUPPORTED, "version 4660")
    viv("convert", "image", "out", "--source-format", "raw", "--format", "raw")
    with open("image", "rb") as a, open("out", "rb") as b:
        assert a.read().rstrip(b"\0") == b.read().rstrip(b"\0")


def test_a_chain_with_a_loop():
    viv("create", "base", "4M", "--format", "qcow2")
    viv("create", "image", "--format", "qcow2", "--backing", "base", "--backing-format", "qcow2")
    viv("rebase", "--unsafe", "base", "image", "--backing-format", "qcow2")
    all_refuse(CHAIN, "image", FAILED, "comes back to it")


def test_a_chain_with_a_missing_file():
    viv("create", "base", "4M", "--format", "qcow2")
    viv("create", "image", "--format", "qcow2", "--backing", "base", "--backing-format", "qcow2")
    os.unlink("base")
    all_refuse(CHAIN, "image", NOT_FOUND, "'base'")


@pytest.mark.parametrize("form", ["vmdk", "vpc", "vhdx"])
def test_a_parent_that_stays_what_it_is(form):
    viv("create", "base", "4M", "--format", form)
    viv("create", "image", "--format", form, "--backing", "base", "--backing-format", form)
    all_refuse({n: w for n, w in (CHANGING | ALONE).items() if n in ("flatten", "rebase", "rebase --unsafe")}, "image", UNSUPPORTED,
               "stays what it is")


def test_a_passphrase_for_nothing():
    viv("create", "image", "4M", "--format", "qcow2")
    words = {"convert": ["convert", "FILE", "out", "--new-key-file", "new"]}
    all_refuse(words, "image", FAILED, "encrypt.format=luks")
    all_refuse(words, "image", FAILED, "give one", "-o", "encrypt.format=luks,key-file=key")
    all_refuse({"convert": ["convert", "FILE", "out"]}, "image", DENIED, "--new-key-file", "-o", "encrypt.format=luks")


def test_a_disk_of_no_bytes():
    with open("image", "wb"):
        pass
    all_refuse({n: READING[n] for n in ("convert", "ova create")}, "image", FAILED, "at least 512 bytes")


def test_a_file_in_use():
    viv("create", "image", "4M", "--format", "qcow2")
    with open("image", "r+b") as f:
        fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))     # F_OFD_SETLK
        # map shows what is there now, and may be asked about the disk of a running machine.
        clone = {"create": ["create", "new.qcow2", "--backing", "FILE", "--backing-format", "qcow2"]}
        all_refuse({n: w for n, w in (CHAIN | ALONE | KEYS | clone).items() if n != "map"}, "image", BUSY, "in use")


@pytest.mark.parametrize("options", [["--format", "luks", "-o", "iter-time=10"],
                                     ["--format", "qcow2", "-o", "encrypt.format=luks,encrypt.iter-time=10"]])
def test_no_key_and_a_wrong_key(options):
    viv("create", "image", "4M", *options, "--key-file", "key")
    needy = {n: w for n, w in (CHAIN | KEYS).items() if options[1] == "qcow2" or n.split()[0] not in ("snapshot", "bitmap", "rebase")}
    all_refuse(needy, "image", DENIED, "--key-file")
    all_refuse(needy, "image", DENIED, "opens no key slot", "--key-file", "wrong")


def test_a_target_that_exists():
    viv("create", "image", "4M", "--format", "qcow2")
    all_refuse({"create": ["create", "FILE", "1M"], "convert": ["convert", "other", "FILE"],
                "ova create": ["ova", "create", "FILE", "other"]}, "image", EXISTS, "--force")


def test_a_file_that_belongs_to_the_target_exists():
    for name in ("image-flat.vmdk", "image.data"):
        with open(name, "wb") as f:
            f.write(b"somebody's")
    flat, data = ["-o", "subformat=monolithicFlat"], ["-o", "data_file=image.data"]
    all_refuse({"create": ["create", "FILE", "1M", *flat], "convert": ["convert", "other", "FILE", *flat]}, "image.vmdk", EXISTS,
               "choose another name")
    all_refuse({"create": ["create", "FILE", "1M", *data], "convert": ["convert", "other", "FILE", *data]}, "image.qcow2", EXISTS,
               "choose another name")


def test_no_space_left_stops_cleanly_and_goes_on_when_there_is_room():
    os.mkdir("small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6M", "tmpfs", "small"], check=True)
    try:
        with open("data", "wb") as f:
            f.write(random.Random(1).randbytes(8 * MIB))
        viv("create", "small/base", "8M", "--format", "raw")
        viv("create", "small/top", "--format", "qcow2", "--backing", os.path.abspath("data"), "--backing-format", "raw")
        viv("create", "top", "--format", "qcow2", "--backing", "small/base", "--backing-format", "raw")
        viv("convert", "data", "full", "--format", "qcow2")
        viv("rebase", "--unsafe", "full", "small/base", "--backing-format", "raw")
        tables = {
            "create": ["create", "small/new", "8M", "--format", "raw", "-o", "preallocation=full"],
            "convert": ["convert", "data", "small/new"], "ova create": ["ova", "create", "small/new", "data"], "flatten": ["flatten", "small/top"],
            "rebase": ["rebase", "small/top", os.path.abspath("other")], "commit": ["commit", "full"],
            "resize": ["resize", "small/top", "+8M", "--preallocation", "full"],
        }
        for i, more in enumerate((["--format", "qcow2", "-o"], ["--format", "vmdk", "-o", "subformat=monolithicFlat"],
                                  ["--format", "vmdk", "-o", "subformat=twoGbMaxExtentFlat"], ["--format", "vhdx", "-o", "subformat=fixed"],
                                  ["--format", "qcow2", "-o", "data_file=new.data"],
                                  ["--format", "luks", "--key-file", "key", "-o", "iter-time=10,header=new.header"])):
            full = ["preallocation=full"] if more[-1] == "-o" else [more.pop() + ",preallocation=full"]
            tables[f"create {i}"] = ["create", "small/new", "8M", *more, *full]
        for words in tables.values():
            said = viv(*words, status=NO_SPACE).stderr
            assert "o space left" in said.splitlines()[-1], said
            # What is half made goes, so nothing of it has to be written back.
            assert said.count("\n") == 1 or words[0] not in ("create", "convert", "ova"), said
            assert sorted(os.listdir("small")) == ["base", "top"], words
        subprocess.run(["mount", "-o", "remount,size=64M", "small"], check=True)
        viv("check", "--repair", "small/top")       # what was allocated and not yet used leaks
        viv("flatten", "small/top")
        viv("commit", "full")
        viv("compare", "small/base", "data")
        os.truncate("data", viv_json("info", "small/top")["virtual-size"])
        viv("compare", "small/top", "data")
    finally:
        subprocess.run(["umount", "small"], check=True)


def test_every_command_is_in_the_tables_and_tells_what_it_does():
    text = subprocess.run([VIV, "disk", "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    listed = set(re.findall(r"^  disk ([a-z ]+?)  ", text, re.M))
    # What makes a file of nothing, or of what a web server has, is refused other things (test_download.py, test_catalogue.py).
    assert listed == {name for name in ALL | ARCHIVES if " --" not in name} | {"create", "fetch", "catalogue", "pull"}
    for name in listed:
        page = viv(*name.split(), "--help").stdout
        assert "--json" in page and "viv disk " + name in page and "xample" in page, name

# SPDX-License-Identifier: Apache-2.0
"""What tests of `viv disk` share: a folder of their own, commands with their statuses, and images."""
import json
import os
import random
import shutil
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VIV = os.path.join(ROOT, "build", "viv")
KIB, MIB = 1 << 10, 1 << 20
DONE, FAILED, USAGE, DIFFERENT, BUSY, NO_SPACE, EXISTS, NOT_FOUND, DENIED, UNSUPPORTED, INTERRUPTED = *range(10), 130

needs_qemu_img = pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img (package qemu-utils) is missing")


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def viv(*argv, status=DONE, env=None):
    done = subprocess.run([VIV, "disk", *map(str, argv)], capture_output=True, text=True, timeout=60, check=False, env=env)
    assert status in (done.returncode, None), (argv, done.returncode, done.stdout, done.stderr)
    return done


def viv_json(*argv, status=DONE):
    return json.loads(viv(*argv, "--json", status=status).stdout)


def qemu(*argv):
    return subprocess.run(["qemu-img", *map(str, argv)], capture_output=True, text=True, timeout=60, check=True).stdout


def refused(*argv, status, says):
    """It ends with STATUS and one sentence, the same in JSON."""
    text = viv(*argv, status=status).stderr
    assert text.count("\n") == 1 and says in text, text
    error = viv_json(*argv, status=status)["error"]
    assert error["status"] == status and says in error["message"]


def make_raw(path, size=8 * MIB, seed=1):
    """Data, holes, written zeroes, and an end that is no cluster."""
    rng = random.Random(seed)
    with open(path, "wb") as f:
        while f.tell() < size:
            n = min(rng.choice((4, 12, 64, 200)) * KIB, size - f.tell())
            kind = rng.randrange(4)
            if kind == 0:
                f.seek(n, os.SEEK_CUR)
            else:
                f.write([bytes(n), rng.randbytes(n), bytes([rng.randrange(1, 256)]) * n][kind - 1])
        f.truncate(size)
    return path


def same(a, b):
    assert viv_json("compare", a, b)["identical"]
    qemu("compare", "-q", a, b)


def clean(path):
    found = viv_json("check", path)
    assert (found["errors"], found["leaks"]) == (0, 0)
    qemu("check", "-q", path)


def only(*names):
    assert sorted(os.listdir(".")) == sorted(names)

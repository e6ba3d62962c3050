# SPDX-License-Identifier: Apache-2.0
"""The programs as an ordinary user has them: whom their daemon serves, what others see of them, and what is said when something is in the way."""
import os
import random
import shutil
import signal
import subprocess

import pytest
from test_node import BUILD
from test_usage import until

US, THEM = 54321, 54322         # nobody's
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")


class User:
    """One with programs and directories of its own."""
    def __init__(self, folder):
        self.folder, self.run = folder, os.path.join(folder, "run")
        self.bin = os.path.join(folder, "bin")
        os.makedirs(self.bin, 0o755)
        for name in ("viv", "vivd", "viv-vmm"):
            shutil.copy(os.path.join(BUILD, name), self.bin)
        os.mkdir(self.run)
        os.chmod(self.run, 0o1777)      # as /tmp is
        os.chown(folder, US, US)

    def start(self, *args, **more):
        env = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": self.folder, "XDG_RUNTIME_DIR": self.run}
        return subprocess.Popen(["viv", *args], env=env, user=US, group=US, extra_groups=[], cwd="/", stdin=subprocess.DEVNULL,
                                executable=os.path.join(self.bin, "viv"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)

    def viv(self, *args, status=0):
        proc = self.start(*args)
        out, err = proc.communicate(timeout=120)
        assert proc.returncode == status, (args, out, err)
        return out if status == 0 else err

    def processes(self, name):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/exe").split(" ")[0] == os.path.join(self.bin, name):
                    found.append(int(pid))
            except OSError:
                continue
        return found

    def end(self):
        for name in ("viv", "vivd", "viv-vmm"):
            for pid in self.processes(name):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def user():
    folder = f"/tmp/viv-user-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o755)
    u = User(folder)
    yield u
    u.end()
    subprocess.run(["rm", "-rf", folder], check=True)


def test_nobody_of_the_same_user_looks_into_the_daemon_or_its_clients(user):
    user.viv("ls")
    daemon, = user.processes("vivd")
    client = user.start("events")
    assert client.poll() is None
    for pid in (daemon, client.pid):
        # What cannot be dumped cannot be traced either, and belongs to root.
        until(lambda: os.stat(f"/proc/{pid}/environ").st_uid == 0, "it is root's", 30)   # pylint: disable=cell-var-from-loop
        refused = subprocess.run(["cat", f"/proc/{pid}/environ"], user=US, group=US, extra_groups=[], capture_output=True, check=False)
        assert refused.returncode and not refused.stdout
    client.kill()
    client.communicate()


def test_a_socket_in_a_folder_of_somebody_else_is_not_believed(user):
    folder = os.path.join(user.run, "viv")
    os.mkdir(folder, 0o755)
    os.chown(folder, THEM, THEM)
    told = user.viv("ls", status=8)
    assert folder in told and "XDG_RUNTIME_DIR" in told
    # Neither is one where others may write, nor a link to one that is right.
    os.chown(folder, US, US)
    os.chmod(folder, 0o777)
    assert folder in user.viv("ls", status=8)
    os.chmod(folder, 0o700)
    os.rename(folder, folder + "-there")
    os.symlink(folder + "-there", folder)
    os.chown(folder, THEM, THEM, follow_symlinks=False)
    assert folder in user.viv("ls", status=8)
    assert not user.processes("vivd")
    os.unlink(folder)
    user.viv("ls")


def test_where_no_daemon_can_be_started_the_way_out_is_told(user):
    os.chmod(user.run, 0o755)
    told = user.viv("ls", status=8)
    assert "XDG_RUNTIME_DIR" in told


def test_an_option_before_the_command_is_told_where_it_belongs(user):
    told = user.viv("--project", "shop", "ls", status=2)
    assert "'--project'" in told and "follow" in told and "viv ls" in told


def test_a_task_that_does_not_count_shows_no_share(user):
    user.viv("stop", "--all")           # of no machines
    assert " 0 % " not in user.viv("task", "ls")


def test_a_sentence_of_the_daemons_has_no_program_in_it(user):
    said = os.path.join(user.folder, "words")
    with open(said, "wb") as f:
        f.write(b"no disk" * 1000)
    assert "no archive" in user.viv("import", said, "a", status=1)
    told = user.viv("image", "import", said, "words", status=1)
    assert "not a multiple of 512" in told and told.count("viv: error:") == 1

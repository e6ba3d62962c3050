# SPDX-License-Identifier: Apache-2.0
"""run - what a user waits for: `viv run debian`, from the command to the prompt on the console, cold and as a template of the
image that is kept warm. The image is there, as it is made once."""
import json
import os
import random
import shutil
import signal
import subprocess
import time

from .instrument import cpu_ns
from .subject import BUILD, Options, vivguest

WAIT_S = 900


class Daemon:
    """One of its own, with the image debian."""
    def __init__(self):
        self.folder = f"/tmp/viv-bench-{os.getpid()}-{random.randrange(1 << 32):x}"
        os.mkdir(self.folder, 0o700)
        self.run = os.path.join(self.folder, "run")
        image, tool = vivguest.debian(), os.path.join(self.folder, "tool")
        with open(tool, "w", encoding="utf-8") as f:
            f.write(f'#!/bin/sh\ncd "$1" && cp --sparse=always {image}/root.img {image}/vmlinuz {image}/initrd.img . && touch stamp\n')
        os.chmod(tool, 0o755)
        with open(os.path.join(self.folder, "log"), "wb") as log:
            self.proc = subprocess.Popen([os.path.join(BUILD, "vivd"), "--data", os.path.join(self.folder, "data"), "--run", self.run,
                                          "--image-tool", tool], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait(lambda: os.path.exists(os.path.join(self.run, "api.sock")))
        self.viv("image", "build", "debian")

    def wait(self, what):
        end = time.monotonic() + WAIT_S
        while not what():
            if time.monotonic() > end:
                raise ValueError("the daemon or its machine does not come up")
            time.sleep(0.01)

    def viv(self, *words):
        done = subprocess.run([os.path.join(BUILD, "viv"), *words, "--socket", os.path.join(self.run, "api.sock")], capture_output=True,
                              text=True, timeout=WAIT_S, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise ValueError(f"viv {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def boot(self, *words):
        """Seconds from the command to the prompt, and of the machine's processor."""
        begin = time.monotonic()
        self.viv("run", "--name", "web", "-d", "--engine", "bt", *words, "debian")
        self.wait(lambda: "web login:" in self.viv("logs", "web"))
        seconds = time.monotonic() - begin
        cpu = cpu_ns(json.loads(self.viv("show", "web", "--json"))["status"]["pid"]) / 1e9
        self.viv("rm", "-f", "web")
        return seconds, cpu

    def end(self):
        self.proc.send_signal(signal.SIGTERM)
        self.proc.wait(60)
        shutil.rmtree(self.folder)


def bench_run(report):
    """`viv run debian`: cold and warm."""
    daemon = Daemon()
    table = {f"run: {how}, {unit}": [] for how in ("cold", "warm") for unit in ("seconds to the prompt", "CPU seconds to the prompt")}
    try:
        daemon.viv("image", "warm", "debian", "--engine", "bt")
        for _ in range(Options.rounds):
            for how, words in (("cold", ["--cold"]), ("warm", [])):
                seconds, cpu = daemon.boot(*words)
                table[f"run: {how}, seconds to the prompt"].append(seconds)
                table[f"run: {how}, CPU seconds to the prompt"].append(cpu)
    finally:
        daemon.end()
    report.pairs(table, 2)


MEASUREMENTS = {"run": bench_run}

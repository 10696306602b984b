"""
A wire worker and its server on two hosts: two network namespaces of this one, and a line between them that is cut and
slowed (F101, F102). Only where this process may make such, and has the commands for it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from typing import Any
from unittest import SkipTest

from asynqueue.wire.keyoffice import KeyOffice
from test.processes import ProcessTestCase, Program

#: What it is to tell is waited for; so it does not go on for ever.
SERVER = """
import signal, sys
signal.alarm(90)
from asynqueue.testing.wiretasks import Universe
from asynqueue.wire import runServer
runServer(f"aqtls:8700:interface=192.0.2.2:keys={sys.argv[1]}", Universe, insecure_root=True)
"""

#: Does what it is told to line by line, and tells what has become of it, and in how many seconds.
CLIENT = """
import json, signal, sys
signal.alarm(90)
from time import monotonic
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from asynqueue import TaskQueue
from asynqueue.wire import WireWorker


def tell(*what):
    print(json.dumps(what), flush=True)


async def main(reactor):
    place = f"aqtls:192.0.2.2:8700:node=gpu1:keys={sys.argv[1]}"
    queue = TaskQueue(WireWorker(None, place, whenLost="reconnect"), returnFailure=True)
    tell(await queue.call("echo", "there"))
    while (line := await threads.deferToThread(sys.stdin.readline)).strip():
        name, *args = json.loads(line)
        began = monotonic()
        tell("begun")
        try:
            result = await queue.options(idempotent=False).call(name, *args)
        except Exception as error:
            result = type(error).__name__
        tell(result if name != "size" else [result, queue.statistics().reruns], monotonic() - began)
    await queue.shutdown(drain=False)


react(main)
"""


class TwoHostsTests(ProcessTestCase):
    """
    A server on one host, and a program that uses it on another one.
    """

    timeout = 120

    def setUp(self) -> None:
        """
        Make the hosts, and the line between them.
        """
        super().setUp()
        if os.geteuid() or shutil.which("ip") is None or shutil.which("tc") is None:
            raise SkipTest("network namespaces need root, and the commands ip and tc")
        self.hosts = [f"aq{os.getpid()}{name}" for name in "ab"]
        for host in self.hosts:
            if not self.does("ip", "netns", "add", host):
                raise SkipTest("this system does not let network namespaces be made")
            self.addCleanup(self.does, "ip", "netns", "del", host)
        here, there = self.hosts
        if not self.does(
            "ip", "link", "add", "wire0", "netns", here, "type", "veth", "peer", "name", "wire1", "netns", there
        ):
            raise SkipTest("this system has no lines between network namespaces")
        for host, name, number in ((here, "wire0", 1), (there, "wire1", 2)):
            self.assertTrue(self.does("ip", "-n", host, "address", "add", f"192.0.2.{number}/24", "dev", name))
            self.assertTrue(self.does("ip", "-n", host, "link", "set", name, "up"))
            self.assertTrue(self.does("ip", "-n", host, "link", "set", "lo", "up"))
        folder = tempfile.mkdtemp(prefix="aq")
        self.addCleanup(shutil.rmtree, folder)
        KeyOffice(f"{folder}/pki").create("gpu1")
        self.keys = f"{folder}/pki"

    def does(self, *command: str) -> bool:
        """
        Run a command, and tell whether it succeeded.
        """
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0

    def on(self, host: str, text: str) -> Program:
        """
        Start a program on a host.
        """
        program = Program(self.path() + ".py", text, self.mark, self.keys, prefix=["ip", "netns", "exec", host])
        self.addCleanup(program.close)
        return program

    def call(self, *call: Any) -> None:
        """
        Have the client make a call, and wait until it has done so.
        """
        stdin = self.client.process.stdin
        assert stdin is not None
        stdin.write(json.dumps(call) + "\n")
        stdin.flush()
        self.assertEqual(self.told(), ["begun"])

    def told(self) -> Any:
        """
        Wait for what the client tells next.
        """
        return json.loads(next(self.lines))

    def test_twoHosts(self) -> None:
        """
        F101: over a line that is cut, and nobody is told, a call is lost in 16 seconds, and the next one waits for the
        line. F102: over one that carries 1 KiB a second, and keeps everything for a while, nothing is.
        """
        here, there = self.hosts
        server = self.on(there, SERVER)
        self.assertTrue(next(server.lines()).startswith("listening on "))
        self.client = self.on(here, CLIENT)
        self.lines = self.client.lines()
        self.assertEqual(self.told(), ["there"])
        self.call("later", 100.0)
        self.assertTrue(self.does("ip", "-n", there, "link", "set", "wire1", "down"))
        error, seconds = self.told()
        self.assertEqual(error, "WorkerLost")
        self.assertLess(seconds, 16.5)
        self.call("echo", "again")
        self.assertTrue(self.does("ip", "-n", there, "link", "set", "wire1", "up"))
        value, seconds = self.told()
        self.assertEqual(value, "again")
        slow = ["rate", "8kbit", "burst", "1600", "latency", "60s"]
        self.assertTrue(self.does("tc", "-n", here, "qdisc", "add", "dev", "wire0", "root", "tbf", *slow))
        self.call("size", "x" * 9_000)
        (length, reruns), seconds = self.told()
        self.assertEqual((length, reruns), (9_000, 0))
        self.assertGreater(seconds, 3.0)
        self.client.process.communicate("\n", timeout=10)
        self.assertEqual(self.client.process.returncode, 0)

"""
Servers that many clients come to at once, none of whom wants anything good (F111, F112), over real sockets.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any

from twisted.internet.task import LoopingCall

from asynqueue.wire.keys import TemporaryAuthority
from asynqueue.wire.limits import Limits
from test.processes import Program
from test.wires import Recorder, WireTestCase, reactor, run

#: Connects many times, from many addresses of this host; sends the beginning of a handshake, one byte a second, and
#: waits until the server closes the connection. Prints what became of the connections.
CROWD = """
import asyncio, json, sys, time
from collections import Counter

port, count, most, isTalking = map(int, sys.argv[1:])
BEGINNING = b"\\x16\\x03\\x01\\x40\\x00\\x01\\x00\\x3f\\xfc"


async def comeAndStay(number, places, stays):
    async with places:
        address = f"127.0.{1 + number % 250}.{1 + number // 250}"
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        try:
            for each in range(30):
                try:
                    if isTalking:
                        writer.write(BEGINNING[each : each + 1])
                    if await asyncio.wait_for(reader.read(1), 1.0) == b"":
                        break
                except TimeoutError:
                    continue
            else:
                return
            stays.append(time.monotonic() - began)
        except ConnectionError:
            stays.append(time.monotonic() - began)
        finally:
            writer.close()


async def main():
    stays = []
    places = asyncio.Semaphore(most)
    await asyncio.gather(*(comeAndStay(number, places, stays) for number in range(count)))
    print(json.dumps(Counter(round(stay, 1) for stay in stays)))


asyncio.run(main())
"""


class CrowdTests(WireTestCase):
    """
    Crowds at the door of a server for connections of TLS, and one client who has been let in before.
    """

    timeout = 90

    async def serveCrowd(self, limits: Limits, count: int, most: int, isTalking: bool) -> tuple[Counter[float], int]:
        """
        Let so many clients come, so many of them at once.

        @return: How many have stayed how long, in seconds, until the server has shown them the door; and how many files
            were open at most here beside those that were open before.
        """
        authority = TemporaryAuthority()
        self.keys = authority.node("laptop", ["submit"])
        server = self.server = await self.serve("aqtls:0", keys=authority.node("gpu1", ["worker"]), limits=limits)
        self.place = f"aqtls:127.0.0.1:{server.number}:node=gpu1"
        friend = await self.connect(self.place, keys=self.keys)
        before = len(os.listdir("/proc/self/fd"))
        numbers: list[int] = []
        look = LoopingCall(lambda: numbers.append(len(os.listdir("/proc/self/fd"))))
        arguments = map(str, (server.number, count, most, int(isTalking)))
        program = Program(os.path.abspath(self.mktemp()), CROWD, "crowd", *arguments)
        self.addCleanup(program.close)
        pipes = len(os.listdir("/proc/self/fd")) - before
        look.start(0.01)
        try:
            while program.process.poll() is None:
                await self.assertTalksAgain(friend)
        finally:
            look.stop()
        code, out, err = program.end(10)
        self.assertEqual((code, err), (0, ""))
        stays = Counter({float(stay): number for stay, number in json.loads(out).items()})
        return stays, max(numbers) - before - pipes

    async def assertTalksAgain(self, friend: Recorder) -> None:
        """
        Somebody who has been let in is served.
        """
        friend.received = b""
        await self.assertTalks(friend)

    @run
    async def test_F111_slow(self) -> None:
        """
        A thousand who say one byte a second are each shown the door when their time is over, and nobody sooner.
        """
        limits = Limits(total=1100, perPeer=1100, unauthenticated=1000, preAuthSeconds=2.0)
        stays, most = await self.serveCrowd(limits, 1000, 1000, isTalking=True)
        self.assertEqual(stays.total(), 1000)
        self.assertGreaterEqual(min(stays), 1.9)
        self.assertLess(max(stays), 10.0)
        self.assertEqual(self.server.reasons, ["too-slow"] * 1000)
        self.assertLessEqual(most, 1000)

    @run
    async def test_F112_many(self) -> None:
        """
        Of ten thousand no more are listened to at once than may be; the others go as they came. As soon as they are
        gone, others are let in.
        """
        limits = Limits(perPeer=64, preAuthSeconds=0.5)
        stays, most = await self.serveCrowd(limits, 10_000, 500, isTalking=False)
        self.assertEqual(stays.total(), 10_000)
        self.assertLessEqual(most, limits.unauthenticated + 32)
        heard = sum(number for stay, number in stays.items() if stay >= 0.5)
        self.assertGreaterEqual(heard, limits.unauthenticated)
        self.assertLess(heard, 5000)
        self.assertEqual(set(self.server.reasons), {"too-slow"})
        began: Any = reactor.seconds()
        await self.assertTalks(await self.connect(self.place, keys=self.keys))
        self.assertLess(reactor.seconds() - began, 2.0)

"""
Tests of what there is to be called by name, and by whom.
"""

from __future__ import annotations

from weakref import WeakSet

from twisted.trial.unittest import SynchronousTestCase

from asynqueue.errors import NotAuthorized
from asynqueue.wire import registry
from asynqueue.wire.identity import Identity
from asynqueue.wire.registry import Registry, expose
from asynqueue.wire.universe import WireWorkerUniverse

CALLER = Identity("laptop", ["submit"], "tls")
ADMIN = Identity("desk", ["admin"], "tls")


class Universe(WireWorkerUniverse):
    """
    A universe with one method.
    """

    def purge(self) -> str:
        """
        Return what it is.
        """
        return "method"


def purge() -> str:
    """
    Return what it is.
    """
    return "function"


class RegistryTests(SynchronousTestCase):
    """
    Names, with nothing exposed but by these tests.
    """

    def setUp(self) -> None:
        """
        Forget what is exposed, and who has it.
        """
        self.patch(registry, "_exposed", {})
        self.patch(registry, "_registries", WeakSet())

    def test_clash(self) -> None:
        """
        A method does not take the place of a function by the same name, whose roles may be others: neither of one that
        is there, nor of one that comes later.
        """
        expose("purge", roles=["admin"])(purge)
        error = self.assertRaises(ValueError, Registry, Universe())
        for word in ("'purge'", "Universe.purge", "function purge"):
            self.assertIn(word, str(error))
        self.patch(registry, "_exposed", {})
        there = Registry(Universe())
        self.assertRaises(ValueError, expose("purge", roles=["admin"]), purge)
        self.assertEqual(there.find(b"purge", CALLER).function(), "method")
        self.assertRaises(NotAuthorized, Registry().find, b"purge", CALLER)
        expose("tidy")(purge)
        self.assertEqual(there.names(), ["purge", "tidy"])

    def test_S3_sameText(self) -> None:
        """
        Who may not call something is not told that it is there.
        """
        expose("purge", roles=["admin"])(purge)
        here = Registry()
        self.assertIs(here.find(b"purge", ADMIN).function, purge)
        texts = {
            str(self.assertRaises(NotAuthorized, here.find, name, CALLER)).replace(name.decode(), "NAME")
            for name in (b"purge", b"tidy")
        }
        self.assertEqual(len(texts), 1)

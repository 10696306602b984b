"""
pydoctor, with what it must know of Twisted, whose source it does not read: that what is called an interface there is
one, and so are those of ours that are derived from it.
"""

import ast
import re

from pydoctor import extensions, model
from pydoctor.extensions.zopeinterface import ZopeInterfaceClass

INTERFACE = re.compile(r"twisted(\.\w+)*\.interfaces\.I[A-Z]\w*$")


class System(model.System):
    """
    What C{conf.py} has pydoctor use.
    """

    custom_extensions = [__name__]


class InterfacesOfTwisted(extensions.ModuleVisitorExt):
    """
    Makes interfaces of the classes that are derived from an interface of Twisted.
    """

    def depart_ClassDef(self, node: ast.ClassDef) -> None:
        """
        Take a class that has been read.
        """
        found = self.visitor.builder.current.contents.get(node.name)
        if isinstance(found, ZopeInterfaceClass) and not found.isinterface and any(map(INTERFACE.match, found.bases)):
            found.isinterface = True
            found.kind = model.DocumentableKind.INTERFACE
            found.implementedby_directly = []


def setup_pydoctor_extension(registrar: extensions.ExtRegistrar) -> None:
    """
    Have the classes of this module used.
    """
    registrar.register_astbuilder_visitor(InterfacesOfTwisted)

"""
Sphinx settings: the pages of this folder, with the API reference that pydoctor makes of the docstrings under C{api/}.
"""

import sys
from importlib.metadata import version as installedVersion
from pathlib import Path

from sphinx.ext.intersphinx import InventoryAdapter, missing_reference

root = Path(__file__).resolve().parents[1]
# For pydoctor, which imports the system class from there.
sys.path.insert(0, str(root / "doc"))

project = "asynqueue"
author = "the AsynQueue contributors"
copyright = f"2026, {author}"
release = version = installedVersion("asynqueue")

extensions = [
    # Only for links from the pages into our own API reference: :py:class:`asynqueue.taskqueue.TaskQueue`.
    "sphinx.ext.intersphinx",
    "pydoctor.sphinx_ext.build_apidocs",
]
# Nothing is fetched while building: no inventory of another project. The one of our API reference is added by pydoctor.
intersphinx_mapping: dict[str, tuple[str, None]] = {}
# A cross-reference without a target is a warning, and `make docs` makes that an error.
nitpicky = True

exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"

pydoctor_url_path = "api/"
pydoctor_args = [
    f"--project-name={project}",
    f"--project-version={release}",
    f"--project-base-dir={root}",
    "--system-class=pydoctor_system.System",
    # Types are in annotations only. Without inventories of other projects L{...} is for names of our own, and whatever
    # else there is to name (Twisted, the standard library) is C{...}.
    "--docformat=epytext",
    "--html-output={outdir}/api",
    # As the modules are written: the overview first, the details after.
    "--cls-member-order=source",
    "--mod-member-order=source",
    str(root / "asynqueue"),
]


def resolveElsewhere(app, env, node, contnode):
    """
    Find a name of ours wherever pydoctor shows it: what several packages export it shows in one of them, not always in
    the same. The pages use the public name, C{asynqueue.TaskQueue.call}; what must agree is C{TaskQueue.call}.
    """
    known = {name for names in InventoryAdapter(env).main_inventory.values() for name in names}
    parts = node.get("reftarget", "").split(".")
    if parts[0] != project:
        return None
    # What comes before the name of a class, or of a function, are modules.
    last = next((place for place, part in enumerate(parts) if part[:1].isupper()), len(parts) - 1)
    for first in range(1, last + 1):
        tail = "." + ".".join(parts[first:])
        found = [name for name in known if name.endswith(tail) and name.removesuffix(tail).islower()]
        if len(found) == 1:
            node["reftarget"] = found[0]
            return missing_reference(app, env, node, contnode)
    return None


def setup(app):
    """
    Let L{resolveElsewhere} have a try after everything else.
    """
    app.connect("missing-reference", resolveElsewhere, priority=900)

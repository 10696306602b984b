"""
Sphinx settings: the pages of this folder, with the API reference that pydoctor makes of the docstrings under C{api/}.
"""

from importlib.metadata import version as installedVersion
from pathlib import Path

root = Path(__file__).resolve().parents[1]

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
    # Types are in annotations only. Without inventories of other projects L{...} is for names of our own, and whatever
    # else there is to name (Twisted, the standard library) is C{...}.
    "--docformat=epytext",
    "--html-output={outdir}/api",
    # As the modules are written: the overview first, the details after.
    "--cls-member-order=source",
    "--mod-member-order=source",
    str(root / "asynqueue"),
]

"""Build an installable detectron2 0.6 out of the one source archive that package indexes carry.

`package_index` fetches the archive, `edits` says what is changed in it, `wheel` packs the result.
Only the standard library is used: this runs before anything is installed.
"""


class BuildError(Exception):
    """What went wrong and what to do about it, in one line for the person at the terminal."""

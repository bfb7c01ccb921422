"""What the commands that take a checkpoint share."""

from __future__ import annotations


def hub_options(options) -> dict[str, str]:
    """Returns the options of the hub that a command was given; a token comes from HF_TOKEN or a login."""
    return {"revision": options.revision} if options.revision else {}

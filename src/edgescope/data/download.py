"""Downloads with a known hash, kept in the user's cache folder."""

from __future__ import annotations

from pathlib import Path

from edgescope.errors import InputError
from edgescope.extras import load


def fetch(url: str, md5: str, into: Path | None = None) -> Path:
    """The file at ``url`` on disk, downloaded once and checked against its hash; ``into``: other than the cache.

    Raises :class:`InputError` if there is no connection or the file is not the published one.
    """
    pooch = load("pooch")
    try:
        found = pooch.retrieve(
            url,
            known_hash=f"md5:{md5}",
            fname=url.rsplit("/", 1)[-1],
            path=into or pooch.os_cache("edgescope") / md5[:8],
            downloader=pooch.HTTPDownloader(timeout=30),
        )
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong hash is a ValueError
        why = "not the published file" if isinstance(error, ValueError) else type(error).__name__
        raise InputError(
            f"could not download {url} ({why})", hint="folder= with the published files on this machine"
        ) from error
    return Path(found)

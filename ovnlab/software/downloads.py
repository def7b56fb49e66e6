"""Downloads of files from the addresses that a person gives."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ovnlab.errors import HostRequirementError, OvnlabError
from ovnlab.scratch import folder as scratch_folder

TIMEOUT = 30.0
"""Seconds without a byte after which a download is given up."""


def download(url: str, path: Path, examine: Callable[[Path], None]) -> None:
    """Download a file, all of it or nothing; it gets its name after `examine` has raised nothing.

    Raises HostRequirementError where the server is not reached, OvnlabError where it has no such file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    again = "see whether this machine reaches it"
    with scratch_folder("downloading-", path.parent) as folder, (folder / "file").open("w+b") as scratch:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310  the person's own URL
                shutil.copyfileobj(answer, scratch)
                length = answer.headers.get("Content-Length", "")
                if length.isdigit() and int(length) != scratch.tell():
                    raise HostRequirementError(f"ended after {scratch.tell()} of {length} bytes", where=url, hint=again)
        except urllib.error.HTTPError as error:
            raise OvnlabError(f"cannot be downloaded: {error.code} {error.reason}", where=url) from None
        except (urllib.error.URLError, OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", "") or error
            raise HostRequirementError(f"cannot be downloaded: {reason}", where=url, hint=again) from None
        scratch.flush()
        examine(Path(scratch.name))
        with contextlib.suppress(FileExistsError):  # another was faster
            os.link(scratch.name, path)

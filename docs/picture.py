"""Draws docs/images/status.svg: what `ovnlab status` shows of a running lab.

ovnlab up 3node && ovnlab bind vm1=worker1 vm2=worker2 && python docs/picture.py
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).parent / "images/status.svg"


def shown(*words: str) -> str:
    """What a command shows on a terminal, colours and all."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(words, stdout=terminal, stderr=subprocess.DEVNULL, close_fds=True)
    os.close(terminal)
    found = b""
    try:
        while chunk := os.read(main, 65536):
            found += chunk
    except OSError:  # how a terminal says that nobody has it open any more
        pass
    os.close(main)
    process.wait()
    return found.decode().replace("\r\n", "\n")


def main() -> None:
    """Run it and draw it."""
    text = shown(sys.executable, "-m", "ovnlab", "status")
    console = Console(record=True, width=92, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), "ovnlab status"))
    console.print(Text.from_ansi(text))
    svg = console.export_svg(title="ovnlab")
    # A picture asks nobody for a font.
    TARGET.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))


main()

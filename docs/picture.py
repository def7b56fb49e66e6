"""Draws what a command shows of a running lab, into docs/images/.

ovnlab up 3node && ovnlab bind vm1=worker1 vm2=worker2 && python docs/picture.py status
ovnlab up routed && python docs/picture.py trace vm1 vm2
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

IMAGES = Path(__file__).parent / "images"


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


def main(*words: str) -> None:
    """Run it and draw it."""
    text = Text.from_ansi(shown(sys.executable, "-m", "ovnlab", *words))
    width = max(92, *(len(line) + 2 for line in text.plain.splitlines()))
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), f"ovnlab {' '.join(words)}"))
    console.print(text)
    svg = console.export_svg(title="ovnlab")
    # A picture asks nobody for a font.
    (IMAGES / f"{words[0]}.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))


main(*sys.argv[1:])

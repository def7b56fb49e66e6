"""Chips for ports: in the card of the node that they are bound to, and on the switch that they are on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ovnlab.graph.canvas import Canvas, pill_width
from ovnlab.graph.palette import CODE, LABEL, SMALL, TEXT, chassis_class
from ovnlab.graph.picture import PortPicture, State

HEIGHT = 21
PITCH = 25
_TINT = ' fill-opacity=".13"'
_NAME_ROOM = 150


def shortened(ports: Sequence[PortPicture], most: int) -> tuple[Sequence[PortPicture], Sequence[PortPicture]]:
    """Return those that are shown, and those that there is no room for: a last chip says how many."""
    return (ports, ()) if len(ports) <= most else (ports[: most - 1], ports[most - 1 :])


def width_wanted(ports: Sequence[PortPicture], *, tag: bool = False) -> float:
    """Return how wide a chip must be for the name and address of each, and for who it is bound to."""
    names = max((min(LABEL.width(port.name), _NAME_ROOM) for port in ports), default=0)
    addresses = max((CODE.width(port.address) for port in ports), default=0)
    tags = max((pill_width(text) + 8 for port in ports for text in _tags(port)), default=0) if tag else 0
    return 10 + names + 12 + addresses + 9 + tags


def chip(canvas: Canvas, x: float, y: float, width: float, port: PortPicture, colours: Mapping[str, int]) -> None:
    """Draw a port's name and address, in the colour of the chassis that it is bound to."""
    with canvas.group(title=port.described):
        _outline(canvas, x, y, width, HEIGHT, port, colours)
        _name_and_address(canvas, x, y, width, port)


def tagged(canvas: Canvas, x: float, y: float, width: float, port: PortPicture, colours: Mapping[str, int]) -> None:
    """Draw a chip and, as text, the chassis that it is bound to."""
    with canvas.group(title=port.described):
        _outline(canvas, x, y, width, HEIGHT, port, colours)
        (text,) = _tags(port)
        tag = min(pill_width(text), width * 0.36)
        _tag(canvas, x + width - tag - 3, y + 2.5, tag, port, colours)
        _name_and_address(canvas, x, y, width - tag - 5, port)


def special(canvas: Canvas, x: float, y: float, width: float, port: PortPicture, colours: Mapping[str, int]) -> None:
    """Draw a port of another kind than a fake VM's, with its type, owner and chassis on a second line."""
    with canvas.group(title=port.described):
        _outline(canvas, x, y, width, HEIGHT * 2 - 2, port, colours)
        _name_and_address(canvas, x, y, width, port)
        left = x + width - 3
        for name in reversed(port.chassis[:3]):
            tag = min(pill_width(name), 70)
            left -= tag + 3
            canvas.pill(left + 3, y + 20.5, name, chassis_class(colours.get(name)), room=tag + 1)
        of = f" of {', '.join(port.parents)}" if port.parents else ""
        canvas.text(x + 10, y + 32, f"{port.kind}{of}", SMALL, "dim", room=left - x - 14)


def more(canvas: Canvas, x: float, y: float, width: float, hidden: Sequence[PortPicture]) -> None:
    """Draw a last chip with the number of those that there was no room for."""
    with canvas.group(title="\n".join(f"{port.name} {' '.join(port.addresses)}" for port in hidden)):
        canvas.rect(x, y, width, HEIGHT, "panel", r=4)
        canvas.text(x + width / 2, y + 14.5, f"+{len(hidden)} more", TEXT, "dim", anchor="middle")


def _outline(
    canvas: Canvas, x: float, y: float, width: float, height: float, port: PortPicture, colours: Mapping[str, int]
) -> None:
    colour = colours.get(port.chassis[0]) if port.chassis else None
    if colour is None or port.state in (State.DOWN, State.MISSING):
        canvas.rect(x, y, width, height, "lost" if port.state in (State.DOWN, State.MISSING) else "none", r=4)
    else:
        canvas.rect(x, y, width, height, chassis_class(colour), r=4, more=_TINT)
        canvas.rect(x, y, 3, height, chassis_class(colour), r=1.5)


def _name_and_address(canvas: Canvas, x: float, y: float, width: float, port: PortPicture) -> None:
    room = width - 19
    address = CODE.fit(port.address, max(room * 0.62, room - LABEL.width(port.name) - 10))
    left = room - CODE.width(address) - 10
    canvas.text(x + 10, y + 14.5, port.name, LABEL, room=max(left, 20))
    canvas.text(x + width - 8, y + 14.5, address, CODE, "dim", anchor="end")


def _tags(port: PortPicture) -> tuple[str]:
    if port.state == State.DOWN:
        return (f"{port.chassis[0]} down",)
    return (port.chassis[0] if port.state == State.BOUND else str(port.state),)


def _tag(canvas: Canvas, x: float, y: float, width: float, port: PortPicture, colours: Mapping[str, int]) -> None:
    (text,) = _tags(port)
    lost = port.state in (State.DOWN, State.MISSING)
    if lost or not port.chassis:
        canvas.pill(x, y, text, "lost" if lost else "none", "bad" if lost else "dim", room=width + 0.5)
    else:
        canvas.pill(x, y, text, chassis_class(colours.get(port.chassis[0])), room=width + 0.5)

"""A link that is down, or that delays, loses, repeats, reorders or limits what passes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from ovnlab.deliberate import Fault, active
from ovnlab.errors import OvnlabError, UsageError
from ovnlab.faults.kind import FaultRequest, Kind
from ovnlab.faults.links import effects_on, link_of, of_others, quantity, require_shaping, shape
from ovnlab.faults.targets import words
from ovnlab.lab.lab import Lab
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.quantities import bits, seconds, share
from ovnlab.topology.resolved import VM, LinkRule

QUANTITIES = {
    "delay": seconds,
    "jitter": seconds,
    "loss": share,
    "duplicate": share,
    "reorder": share,
    "rate": bits,
}
"""What a link can do to packets, and how its value is read."""

DIRECTIONS = ("in", "out", "both")


def rule_of(node: str, device: str, settings: Mapping[str, str]) -> LinkRule:
    """Return the rule that options mean. Raises UsageError for an invalid value."""
    direction = settings.get("direction", "both")
    if direction not in DIRECTIONS:
        raise UsageError(f"invalid direction {direction!r}: expected {', '.join(DIRECTIONS)}")
    values = {name: quantity(read, settings[name], name) for name, read in QUANTITIES.items() if name in settings}
    if values.get("jitter", 0) > values.get("delay", 0):
        raise UsageError("invalid jitter: expected at most the delay", hint="--delay 25ms --jitter 5ms")
    return replace(LinkRule(node, device, direction), **values)


PORT_FLAGS = {"in": ("no-forward",), "out": ("no-receive",), "both": ("no-forward", "no-receive")}
"""What cuts the port of a fake VM (ovs-ofctl(8), mod-port)."""


def _of_vm(lab: Lab, vm: VM, state: Sequence[str], settings: Mapping[str, str]) -> Fault:
    """Return the fault that cuts a fake VM off its switch."""
    if list(state) != ["down"] or set(settings) - {"direction"}:
        hint = f"ovnlab link {vm.name} down, or delay the link of its node"
        raise UsageError("only down and up are supported for the link of a fake VM", where=vm.name, hint=hint)
    home = lab.endpoints({vm.name}).get(vm.name)
    if home is None:
        raise OvnlabError("is not bound to a node that runs", where=vm.name, hint=f"ovnlab bind {vm.name} NODE")
    direction = settings.get("direction", "both")
    node = home.node.name
    return Fault(
        0,
        "link",
        vm.name,
        f"the link of {vm.name} is down{ONE_WAY[direction]}",
        settings={"vm": vm.name, "node": node, "port": vm.port, "direction": direction},
        effects=(f"port {node} {vm.port}", f"vm {vm.name}", f"size vm {vm.name}"),
    )


ONE_WAY = {"in": " into it", "out": " out of it", "both": ""}
"""What is said of a direction."""


def _begin(lab: Lab, fault: Fault) -> None:
    if "vm" in fault.settings:
        _set_flags(lab, fault, PORT_FLAGS[fault.settings["direction"]])
    else:
        shape(lab, fault)


def _end(lab: Lab, fault: Fault) -> None:
    if "vm" in fault.settings:
        port = (fault.settings["node"], fault.settings["port"])
        others = [other for other in active(lab.folder) if "vm" in other.settings and other.number != fault.number]
        same = [other for other in others if (other.settings["node"], other.settings["port"]) == port]
        cut = {flag for other in same for flag in PORT_FLAGS[other.settings["direction"]]}
        flags = [flag for flag in PORT_FLAGS[fault.settings["direction"]] if flag not in cut]
        if flags:
            _set_flags(lab, fault, [flag.removeprefix("no-") for flag in flags])
    else:
        shape(lab, fault)


def _set_flags(lab: Lab, fault: Fault, flags: Sequence[str]) -> None:
    node = lab.nodes().get(fault.settings["node"])
    if node is None:  # the flags have ended with its switch
        return
    port, cuts = fault.settings["port"], any(flag.startswith("no-") for flag in flags)
    script = render("node/set-port-flags.sh.j2", node=node.name, port=port, flags=flags, cuts=cuts)
    run_script(node.context, script, where=f"{node.name}: changing the port of {fault.target}")


def _describe(lab: Lab, request: FaultRequest) -> Fault:
    name, *rest = words(request, 1, 2, "NODE[:NIC]|VM [down|up]")
    vm = lab.topology.vm(name)
    if vm is not None:
        return _of_vm(lab, vm, rest, request.settings)
    require_shaping(lab)
    target, *state = words(request, 1, 2, "NODE[:NIC] [down|up]")
    node, device = link_of(lab, target)
    given = {name: value for name, value in request.settings.items() if name in QUANTITIES}
    down = state == ["down"]
    if state and not down:
        raise UsageError(f"invalid state {state[0]!r}: expected down or up")
    if down and given:
        raise UsageError("a link that is down passes nothing: leave the other options out", where=target)
    if not down and not given:
        hint = f"ovnlab link {target} down, or ovnlab link {target} --delay 25ms"
        raise UsageError("missing what the link is to be", where=target, hint=hint)
    rule = rule_of(node.name, device, request.settings)
    one_way = ONE_WAY[rule.direction]
    if down:
        rule = replace(rule, down=True) if rule.direction == "both" else replace(rule, loss=1.0)
    cuts = down or rule.loss == 1.0
    said = "is down" if down else f"has {', '.join(f'{name} {value}' for name, value in given.items())}"
    effects = effects_on(node, device)
    return Fault(
        0,
        "link",
        f"{node.name}:{device}",
        f"the link {node.name}:{device} {said}{one_way}",
        (node.name,),
        links=(rule,),
        settings=dict(request.settings),
        effects=effects if cuts else (),
        may=of_others(lab, node) if cuts else (*effects, *of_others(lab, node), "pair *"),
    )


KIND = Kind(
    name="link",
    arguments="NODE[:NIC]|VM [down|up]",
    summary="Cut a link, or make it delay, lose, repeat, reorder or limit what passes it.",
    describe=_describe,
    begin=_begin,
    end=_end,
    options=(*QUANTITIES, "direction"),
)

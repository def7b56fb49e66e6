"""The list of commands that `ovnlab --help` shows: in groups, each with a line of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

GROUPS: dict[str, dict[str, str]] = {
    "Lab": {
        "init": "Write a commented topology file to begin with",
        "up": "Bring a lab up, or make it what its file says now",
        "edit": "Edit a lab's file, see what changes, and do it",
        "down": "Remove labs and every trace of them",
        "ls": "List labs",
        "status": "Show nodes, daemons, tunnels and ports",
        "bind": "Bind fake VMs to nodes",
        "unbind": "Take fake VMs off their nodes",
        "exec": "Run a command on nodes or in a fake VM",
        "shell": "Open a shell on a node or in a fake VM",
        "cp": "Copy files to, from or between nodes",
        "port-forward": "Open a fake VM's service on this machine's loopback",
        "restart": "Restart a daemon or a node",
        "stop": "Stop a daemon or a node",
        "start": "Start a daemon or a node",
        "upgrade": "Change OVS or OVN on nodes, one after the other",
    },
    "Look": {
        "diagnose": "Say what is wrong: the object to blame, and what mends it",
        "test": "Try every pair of fake VMs, and the file's checks",
        "wait": "Wait until a lab has followed a change",
        "explain": "Tell all about an object, and why a port is down",
        "flows": "Show OpenFlow flows with names and rates",
        "logs": "Show the ends of logs",
        "graph": "Draw a lab or a topology",
        "bundle": "Write all that a bug report needs to one file",
    },
    "Packets": {
        "ping": "Ping from a fake VM or node",
        "trace": "Trace a packet: logical, OpenFlow, on the wire",
        "capture": "Capture at several interfaces, with names",
        "decode": "Say what is in captured packets",
        "traffic": "Send steadily, and measure outages",
        "perf": "Measure throughput and latency",
    },
    "Faults": {
        "fault": "Break something on purpose",
        "faults": "List what is broken on purpose",
        "link": "Cut a link of a node, or make it slow and lossy",
        "flap": "Cut a link and mend it, again and again",
        "partition": "Part nodes from each other",
        "heal": "End faults",
    },
    "Tools": {
        "nbctl": "Run ovn-nbctl on a central node",
        "sbctl": "Run ovn-sbctl on a central node",
        "vsctl": "Run ovs-vsctl on a node",
        "ofctl": "Run ovs-ofctl on a node",
        "appctl": "Run ovs-appctl or ovn-appctl on a node",
        "podman-shim": "Stand in for podman in OVN's multinode tests",
        "upstream": "Run OVN's own multinode tests on a lab",
    },
    "Machines": {
        "ssh": "Log in to a node by SSH",
        "ssh-config": "Print the path of a file for `ssh -F`",
        "inventory": "Print an Ansible inventory",
        "console": "Show the serial console of a virtual machine",
        "suspend": "Write a lab's virtual machines to disk",
        "resume": "Resume a suspended lab",
        "snapshot": "Save and restore whole labs",
        "image": "Make disk images for nodes",
    },
    "Files": {
        "help": "Explain a command or a key of the topology file",
        "topologies": "List the topologies that come with ovnlab",
        "validate": "Check a topology file",
        "render": "Print every script that `up` would run",
        "save": "Print a lab as it is now as a topology file",
        "schema": "Print the JSON schema, for editors",
        "build": "Build OVS and OVN from source, without a lab",
        "doctor": "Say what this machine lacks, and what mends it",
        "prune": "Remove what nothing uses any more",
    },
}


def sections(names: Sequence[str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each group's title and its commands with their lines; those of no group come last."""
    left = dict.fromkeys(names)
    for title, lines in GROUPS.items():
        found = [(name, line) for name, line in lines.items() if name in left]
        for name, _ in found:
            del left[name]
        if found:
            yield title, found
    if left:
        yield "More", [(name, f"See `ovnlab {name} --help`") for name in left]

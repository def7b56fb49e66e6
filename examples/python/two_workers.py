"""Bring a lab up, ping between two workers, print the version of OVS on each chassis, and remove the lab."""

from __future__ import annotations

import sys

from ovnlab import errors, up


def main() -> int:
    lab = up("3node", name="python-example")
    try:
        vms = lab.bind({"vm1": "worker1", "vm2": "worker2"})
        address = vms["vm2"].ips[0]
        print(lab.run("vm1", "ping", "-c1", "-W5", address))
        for node in lab.topology.chassis:
            print(node.name, lab.run(node.name, "ovs-vsctl", "--version").splitlines()[0])
    except errors.OvnlabError as error:
        print(f"{error} ({error.hint})" if error.hint else error, file=sys.stderr)
        return error.exit_code
    finally:
        lab.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())

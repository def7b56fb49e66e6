"""What is read from the Southbound database."""

from ovnlab.northbound.southbound import bindings_in
from ovnlab.ovsdb.client import Tables


def test_a_chassis_is_registered_once_its_ovn_controller_has_been_there() -> None:
    """Rows of Chassis are written before any ovn-controller starts, those of Chassis_Private by itself."""
    tables: Tables = {
        "Chassis": [{"_uuid": "1", "name": "a", "encaps": "2"}, {"_uuid": "3", "name": "b", "encaps": ["4", "5"]}],
        "Chassis_Private": [{"name": "b", "nb_cfg": 3}],
        "Encap": [
            {"_uuid": "2", "type": "geneve", "ip": "192.0.2.1"},
            {"_uuid": "4", "type": "vxlan", "ip": "192.0.2.2"},
            {"_uuid": "5", "type": "geneve", "ip": "192.0.2.2"},
        ],
        "Port_Binding": [],
        "SB_Global": [{"nb_cfg": 5}],
        "Service_Monitor": [
            {"ip": "10.0.0.1", "port": 80, "logical_port": "vm1", "status": "offline"},
            {"ip": "fd00::1", "port": 80, "logical_port": "vm2", "status": "online"},
            {"ip": "fd00::2", "port": 80, "logical_port": "vm3", "status": "offline"},
        ],
    }
    found = bindings_in(tables)
    assert found.chassis == {"b": "geneve+vxlan"}
    assert found.behind == {"b": 2}
    assert found.offline == {"10.0.0.1:80": "vm1", "[fd00::2]:80": "vm3"}

#!/bin/sh
# The floor: a plain shell script that starts the daemons of a lab, nodes in parallel, and waits for the same: chassis
# registered, `--wait=hv sync` answered, tunnels there, and fake VMs up. It has no state, checks nothing, and can do
# nothing else. Its order is the best one that is known for many chassis: the rows of all chassis first, then switches,
# which are told the MACs of all their tunnel peers, then fake VMs, then controllers.
# With BR_INT=later, ovn-controller makes br-int itself, as its manual page has it: simpler to write, and often a
# second slower, because it looks for the switch's socket before that is there and then waits.
# usage: floor.sh FOLDER TREE WORKERS [VMS]    (run by `python -m benchmarks`; ends when its standard input does)
# VMS fake VMs are on one logical switch, the first on central, one on each node.
set -eu
folder=$1 tree=$2 workers=$3 vms=${4:-0}
user=$([ "$(id -u)" = 0 ] || echo --user --map-root-user)
option=$([ "$(id -u)" = 0 ] || echo -o userxattr)
mkdir -p "$folder"

# Each node in a line: name, IP address, MAC, fake VM or -, its MAC, its IP address.
number=0
while [ "$number" -le "$workers" ]; do
    [ "$number" = 0 ] && node=central || node=worker$number
    [ "$number" -lt "$vms" ] && vm=v$number || vm=-
    printf '%s 172.30.%d.%d 02:00:00:00:%02x:%02x %s 02:01:00:00:%02x:%02x 10.0.%d.%d\n' "$node" \
        $((number / 250)) $((number % 250 + 1)) $((number / 256)) $((number % 256)) \
        "$vm" $((number / 256)) $((number % 256)) $((number / 250)) $((number % 250 + 1))
    number=$((number + 1))
done >"$folder/nodes"

cat >"$folder/switch.sh" <<'END'
set -eu
node=$1 ip=$2 mac=$3 vm=$4 vm_mac=$5 vm_ip=$6 folder=$7
write_rows() { # chassis, the logical switch and its ports
    set --
    while read -r name address _; do set -- "$@" -- chassis-add "$name" geneve "$address"; done <"$folder/nodes"
    ovn-sbctl --no-leader-only init "$@"
    set --
    while read -r _ _ _ name name_mac name_ip; do
        [ "$name" = - ] || set -- "$@" -- lsp-add net "$name" -- lsp-set-addresses "$name" "$name_mac $name_ip"
    done <"$folder/nodes"
    [ $# = 0 ] || set -- -- ls-add net "$@"
    ovn-nbctl --no-leader-only init "$@"
}
hostname "$node"
for place in etc/openvswitch var/lib/openvswitch var/lib/ovn; do mkdir -p "$folder/$node/$place"; done
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/openvswitch /run/ovn /run/netns /var/log/openvswitch /var/log/ovn
ip link set lo up
ovsdb-tool create "$folder/$node/conf.db" /usr/share/openvswitch/vswitch.ovsschema
if [ "$node" = central ]; then
    for db in nb sb; do
        case $db in nb) schema=OVN_Northbound global=NB_Global port=6641 ;; sb) schema=OVN_Southbound global=SB_Global port=6642 ;; esac
        ovsdb-tool create "$folder/$node/$db.db" /usr/share/ovn/ovn-$db.ovsschema
        ovsdb-server --detach --no-chdir -vconsole:off --pidfile=/run/ovn/ovn${db}_db.pid --unixctl=/run/ovn/ovn${db}_db.ctl \
            --log-file=/var/log/ovn/$db.log --remote=punix:/run/ovn/ovn${db}_db.sock --remote=punix:"$folder/central/$db.sock" --remote=ptcp:$port:0.0.0.0 \
            --remote=db:$schema,$global,connections "$folder/$node/$db.db" 2>/dev/null
    done
    write_rows
fi
ovsdb-server --detach --no-chdir -vconsole:off --pidfile --log-file --remote=punix:/run/openvswitch/db.sock "$folder/$node/conf.db" 2>/dev/null
[ "${BR_INT:-}" = later ] || br_int="-- add-br br-int -- set Bridge br-int datapath_type=netdev fail_mode=secure other_config:hwaddr=\"06:${mac#*:}\""
[ "$vm" = - ] || plug="-- add-port br-int $vm -- set Interface $vm type=internal external_ids:iface-id=$vm mtu_request=1442"
ovs-vsctl --no-wait -- init ${br_int:-} ${plug:-} \
    -- add-br br-eth1 -- set Bridge br-eth1 datapath_type=netdev other_config:hwaddr="\"$mac\"" -- add-port br-eth1 eth1 \
    -- set Open_vSwitch . external_ids:system-id="$node" external_ids:ovn-remote=tcp:172.30.0.1:6642 \
    external_ids:ovn-encap-type=geneve external_ids:ovn-encap-ip="$ip" external_ids:ovn-bridge-datapath-type=netdev
echo 1 >/proc/sys/net/ipv6/conf/eth1/disable_ipv6
ip link set eth1 arp off up
ovs-vswitchd --disable-system --detach --no-chdir -vconsole:off --pidfile --log-file --unixctl="$folder/$node/switch.ctl" 2>/dev/null
echo 1 >/proc/sys/net/ipv6/conf/br-eth1/addr_gen_mode
{
    echo "address add $ip/16 dev br-eth1"
    echo link set br-eth1 up
    while read -r name address address_mac _; do
        case $name:$node in
            central:central) ;;
            central:* | *:central) echo "neigh add $address lladdr $address_mac dev br-eth1 nud stale" ;;
        esac
    done <"$folder/nodes"
    [ "$vm" = - ] || echo "netns add $vm"
    [ "$vm" = - ] || echo "link set $vm netns $vm"
} | ip -batch -
[ "$vm" = - ] || nsenter --net="/run/netns/$vm" sh -c 'cd /proc/sys/net/ipv6/conf/"$1"; echo 0 >accept_dad; echo 0 >router_solicitations; exec ip -batch -' sh "$vm" <<E
link set lo up
link set $vm address $vm_mac mtu 1442 up
address add $vm_ip/16 dev $vm
E
END

# The MACs of all tunnel peers, over one connection to each switch (ovs-vswitchd(8), tnl/neigh/set).
cat >"$folder/neighbours.py" <<'END'
import json, socket, sys

nodes = [line.split() for line in open(sys.argv[1] + "/nodes")]
commands = [{"method": "tnl/neigh/set", "params": ["br-eth1", ip, mac], "id": 0} for _, ip, mac, *_ in nodes]
sent = "".join(map(json.dumps, commands)).encode()
for name, *_ in nodes:
    with socket.socket(socket.AF_UNIX) as switch:
        switch.connect(f"{sys.argv[1]}/{name}/switch.ctl")
        switch.sendall(sent)
        answers = b""
        while answers.count(b'"error":null') < len(nodes):
            answers += switch.recv(1 << 16)
END

cat >"$folder/controller.sh" <<'END'
[ "$node" != central ] || ovn-northd --detach --no-chdir -vconsole:off --pidfile=/run/ovn/ovn-northd.pid --log-file=/var/log/ovn/ovn-northd.log \
    --ovnnb-db=unix:/run/ovn/ovnnb_db.sock --ovnsb-db=unix:/run/ovn/ovnsb_db.sock 2>/dev/null
ovn-controller --detach --no-chdir -vconsole:off --pidfile=/run/ovn/ovn-controller.pid --log-file=/var/log/ovn/ovn-controller.log \
    unix:/run/openvswitch/db.sock 2>/dev/null
END

cat >"$folder/tunnels.sh" <<'END'
until [ "$(ovs-vsctl --bare --columns=name find interface type=geneve 'ofport>0' | grep -c ovn)" = "$8" ]; do sleep 0.1; done
[ "$vm" = - ] || ovs-vsctl --timeout=100 wait-until Interface "$vm" external_ids:ovn-installed=true
END

cat >"$folder/lab.sh" <<'END'
set -eu
folder=$1 tree=$2 workers=$3 option=$4
mount -t tmpfs tmpfs /run
mount -t overlay $option -o lowerdir="$tree/usr":/usr overlay /usr
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
ip link add underlay type bridge mcast_snooping 0
ip link set underlay up
start() {
    ip netns add "$1"
    ip link add "$1" type veth peer name eth1 netns "$1"
    ip link set "$1" master underlay up
    nsenter --net=/run/netns/"$1" unshare --mount --pid --uts --ipc --fork --kill-child --mount-proc \
        sh -c '. "$7/switch.sh"; echo done >"$7/$1.ready"; read -r _ <"$7/$1.fifo"; . "$7/controller.sh"; echo done >"$7/$1.started"; read -r _ <"$7/$1.fifo"; . "$7/tunnels.sh"; echo done >"$7/$1.started"; exec sleep 1000' \
        sh "$@" &
}
nodes= chassis= ports=
while read -r node _ _ vm _; do
    nodes="$nodes $node"
    chassis="$chassis -- wait-until Chassis_Private $node"
    [ "$vm" = - ] || ports="$ports -- wait-until Logical_Switch_Port $vm up=true"
    mkfifo "$folder/$node.fifo" "$folder/$node.ready" "$folder/$node.started"
done <"$folder/nodes"
while read -r words; do start $words "$folder" "$workers"; done <"$folder/nodes"
for node in $nodes; do read -r _ <"$folder/$node.ready"; done
[ "$workers" = 0 ] || python3 "$folder/neighbours.py" "$folder"
for node in $nodes; do echo go >"$folder/$node.fifo"; done
for node in $nodes; do read -r _ <"$folder/$node.started"; done
ovn-sbctl --db=unix:"$folder/central/sb.sock" --timeout=100 init $chassis
ovn-nbctl --db=unix:"$folder/central/nb.sock" --timeout=100 --wait=hv sync
for node in $nodes; do echo go >"$folder/$node.fifo"; done
for node in $nodes; do read -r _ <"$folder/$node.started"; done
[ -z "$ports" ] || ovn-nbctl --db=unix:"$folder/central/nb.sock" --timeout=100 --wait=hv init $ports
echo ready
read -r _ || :
END

exec unshare $user --net --mount --pid --uts --ipc --fork --kill-child --mount-proc \
    sh "$folder/lab.sh" "$folder" "$tree" "$workers" "${option:--o index=off}"

#!/bin/sh
# The floor: a plain shell script that starts the daemons of a lab, nodes in parallel, and waits for the same:
# chassis registered, `--wait=hv sync` answered, tunnels there. It has no state, checks nothing, and can do nothing else.
# With BR_INT=later, ovn-controller makes br-int itself, as its manual page has it: simpler to write, and often a
# second slower, because it looks for the switch's socket before that is there and then waits.
# usage: floor.sh FOLDER TREE WORKERS    (run by `python -m benchmarks`; ends when its standard input does)
set -eu
folder=$1 tree=$2 workers=$3
user=$([ "$(id -u)" = 0 ] || echo --user --map-root-user)
option=$([ "$(id -u)" = 0 ] || echo -o userxattr)
mkdir -p "$folder"

cat >"$folder/switch.sh" <<'END'
set -eu
node=$1 ip=$2
hostname "$node"
for place in etc/openvswitch var/lib/openvswitch var/lib/ovn; do mkdir -p "$3/$node/$place"; done
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/openvswitch /run/ovn /var/log/openvswitch /var/log/ovn
ip link set lo up
ovsdb-tool create "$3/$node/conf.db" /usr/share/openvswitch/vswitch.ovsschema
if [ "$node" = central ]; then
    for db in nb sb; do
        case $db in nb) schema=OVN_Northbound global=NB_Global port=6641 ;; sb) schema=OVN_Southbound global=SB_Global port=6642 ;; esac
        ovsdb-tool create "$3/$node/$db.db" /usr/share/ovn/ovn-$db.ovsschema
        ovsdb-server --detach --no-chdir -vconsole:off --pidfile=/run/ovn/ovn${db}_db.pid --unixctl=/run/ovn/ovn${db}_db.ctl \
            --log-file=/var/log/ovn/$db.log --remote=punix:/run/ovn/ovn${db}_db.sock --remote=ptcp:$port:0.0.0.0 \
            --remote=db:$schema,$global,connections "$3/$node/$db.db" 2>/dev/null
    done
    ovn-nbctl --no-leader-only init
    ovn-sbctl --no-leader-only init
fi
ovsdb-server --detach --no-chdir -vconsole:off --pidfile --log-file --remote=punix:/run/openvswitch/db.sock "$3/$node/conf.db" 2>/dev/null
[ "${BR_INT:-}" = later ] || br_int="-- add-br br-int -- set Bridge br-int datapath_type=netdev fail_mode=secure"
ovs-vsctl --no-wait -- init ${br_int:-} \
    -- add-br br-eth1 -- set Bridge br-eth1 datapath_type=netdev -- add-port br-eth1 eth1 \
    -- set Open_vSwitch . external_ids:system-id="$node" external_ids:ovn-remote=tcp:192.168.50.10:6642 \
    external_ids:ovn-encap-type=geneve external_ids:ovn-encap-ip="$ip" external_ids:ovn-bridge-datapath-type=netdev
ip link set eth1 up
ovs-vswitchd --disable-system --detach --no-chdir -vconsole:off --pidfile --log-file 2>/dev/null
ip address add "$ip/24" dev br-eth1
ip link set br-eth1 up
END

cat >"$folder/controller.sh" <<'END'
set -eu
[ "$1" != central ] || ovn-northd --detach --no-chdir -vconsole:off --pidfile=/run/ovn/ovn-northd.pid --log-file=/var/log/ovn/ovn-northd.log \
    --ovnnb-db=unix:/run/ovn/ovnnb_db.sock --ovnsb-db=unix:/run/ovn/ovnsb_db.sock 2>/dev/null
ovn-controller --detach --no-chdir -vconsole:off --pidfile=/run/ovn/ovn-controller.pid --log-file=/var/log/ovn/ovn-controller.log \
    unix:/run/openvswitch/db.sock 2>/dev/null
END

cat >"$folder/tunnels.sh" <<'END'
until [ "$(ovs-vsctl --bare --columns=name find interface type=geneve 'ofport>0' | grep -c ovn)" = "$4" ]; do sleep 0.02; done
END

cat >"$folder/lab.sh" <<'END'
set -eu
folder=$1 tree=$2 workers=$3 option=$4
mount -t tmpfs tmpfs /run
mount -t overlay $option -o lowerdir="$tree/usr":/usr overlay /usr
ip link add underlay type bridge
ip link set underlay up
start() {
    ip netns add "$1"
    ip link add "$1" type veth peer name eth1 netns "$1"
    ip link set "$1" master underlay up
    nsenter --net=/run/netns/"$1" unshare --mount --pid --uts --ipc --fork --kill-child --mount-proc \
        sh -c '. "$3/switch.sh"; echo done >"$3/$1.ready"; read -r _ <"$3/$1.fifo"; . "$3/controller.sh"; echo done >"$3/$1.started"; read -r _ <"$3/$1.fifo"; . "$3/tunnels.sh"; echo done >"$3/$1.started"; exec sleep 1000' \
        sh "$1" "$2" "$folder" "$workers" &
}
nodes=central
wait="wait-until Chassis central"
for number in $(seq "$workers"); do
    nodes="$nodes worker$number"
    wait="$wait -- wait-until Chassis worker$number"
done
for node in $nodes; do mkfifo "$folder/$node.fifo" "$folder/$node.ready" "$folder/$node.started"; done
start central 192.168.50.10
for number in $(seq "$workers"); do start "worker$number" "192.168.50.$((100 + number))"; done
for node in $nodes; do read -r _ <"$folder/$node.ready"; done
for node in $nodes; do echo go >"$folder/$node.fifo"; done
for node in $nodes; do read -r _ <"$folder/$node.started"; done
nsenter --net=/run/netns/central ovn-sbctl --db=tcp:192.168.50.10:6642 --timeout=30 \
    $wait
nsenter --net=/run/netns/central ovn-nbctl --db=tcp:192.168.50.10:6641 --timeout=30 --wait=hv sync
for node in $nodes; do echo go >"$folder/$node.fifo"; done
for node in $nodes; do read -r _ <"$folder/$node.started"; done
echo ready
read -r _ || :
END

exec unshare $user --net --mount --pid --uts --ipc --fork --kill-child --mount-proc \
    sh "$folder/lab.sh" "$folder" "$tree" "$workers" "${option:--o index=off}"

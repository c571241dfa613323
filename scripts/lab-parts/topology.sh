# shellcheck shell=bash
# Namespaces, links, addresses and routes of the lab. Sourced by scripts/lab.

topology_is_up() {
    local namespace
    for namespace in "${namespaces[@]}"; do
        [[ -e /run/netns/$namespace ]] || return 1
    done
    [[ -e $lab_dir/up ]]
}

topology_up() {
    local namespace server
    for namespace in "${namespaces[@]}"; do
        ip netns add "$namespace"
        settings_before_links "$namespace"
    done
    bridge_up br-client 02:00:00:00:01:fe 192.0.2.254/24 2001:db8:1::fe/64
    bridge_up br-server 02:00:00:00:02:fe 203.0.113.254/24 2001:db8:2::fe/64
    wire_up pollux-director client0-wire director-client br-client 02:00:00:00:01:01
    wire_up pollux-director server0-wire director-server br-server 02:00:00:00:02:01
    client_up
    for server in "${servers[@]}"; do
        server_link_up "$server"
    done
    director_up
    router_routes_up
}

# No duplicate address detection and no router advertisements: an address must work the moment it is there. Link-local
# addresses come from the MAC: a router without one cannot ask for a neighbour on behalf of a packet it forwards.
settings_before_links() {
    local settings=(
        net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
        net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
        net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
        net.ipv6.conf.default.dad_transmits=0
        net.ipv6.conf.all.accept_ra=0 net.ipv6.conf.default.accept_ra=0
        net.ipv6.conf.default.addr_gen_mode=0 net.ipv6.conf.default.router_solicitations=0
    )
    case $1 in
    pollux-router | pollux-director | pollux-backup)
        settings+=(net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1)
        ;;
    pollux-client)
        settings+=("net.ipv4.ip_local_port_range=1024 65535")
        ;;
    pollux-rs*)
        # Silence about the VIP, which only the director may claim on this network.
        settings+=(net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2)
        ;;
    esac
    # A network carries broken packets, too: the kernel's bridge must not sort them out.
    if [[ -d /proc/sys/net/bridge && $1 == pollux-router ]]; then
        settings+=(net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0)
    fi
    in_namespace "$1" sysctl -qw "${settings[@]}"
    ip -n "$1" link set lo up
}

bridge_up() {
    local bridge=$1 mac=$2 address4=$3 address6=$4
    ip -n pollux-router -batch - <<BATCH
link add $bridge address $mac type bridge stp_state 0 mcast_snooping 0
link set $bridge up
addr add $address4 dev $bridge
addr add $address6 dev $bridge nodad
BATCH
}

# Makes a link from an interface of a namespace to a port of a bridge in pollux-router.
link_up() {
    local namespace=$1 interface=$2 mac=$3 port=$4 bridge=$5
    ip -n "$namespace" link add "$interface" address "$mac" type veth peer name "$port" netns pollux-router
    offloads_off "$namespace" "$interface"
    offloads_off pollux-router "$port"
    ip -n pollux-router link set "$port" master "$bridge" up
    ip -n "$namespace" link set "$interface" up
}

# veth would hand over frames of 64 kB without checksums, which no network does.
offloads_off() {
    in_namespace "$1" ethtool -K "$2" tx off rx off sg off tso off gso off gro off txvlan off rxvlan off \
        tx-udp-segmentation off >"$lab_dir/ethtool.log" 2>&1 ||
        fail "cannot turn offloads of $2 off: $(<"$lab_dir/ethtool.log")"
}

# A link that belongs to Pollux: the kernel has no address on it. The packet sockets of net_af_packet see a frame
# before nftables' ingress hook does, so dropping there keeps the kernel from answering beside Pollux.
wire_up() {
    local director=$1 wire=$2 port=$3 bridge=$4 mac=$5
    link_up "$director" "$wire" "$mac" "$port" "$bridge"
    in_namespace "$director" sysctl -qw "net.ipv6.conf.$wire.disable_ipv6=1"
    in_namespace "$director" nft -f - <<RULES
table netdev pollux {
    chain $wire { type filter hook ingress device $wire priority -500; policy drop; }
}
RULES
}

client_up() {
    link_up pollux-client lan0 02:00:00:00:01:10 client br-client
    ip -n pollux-client -batch - <<BATCH
addr add 192.0.2.10/24 dev lan0
addr add 2001:db8:1::10/64 dev lan0 nodad
route add 198.51.100.0/24 via 192.0.2.1
route add 2001:db8:100::/64 via 2001:db8:1::1
route add default via 192.0.2.254
route add default via 2001:db8:1::fe
BATCH
}

# A real server's own address answers through the director, its VIPs through the router.
server_link_up() {
    local server=$1
    local number=1${server#rs}
    link_up "pollux-$server" lan0 "02:00:00:00:02:$number" "$server" br-server
    ip -n "pollux-$server" -batch - <<BATCH
addr add 203.0.113.$number/24 dev lan0
addr add 2001:db8:2::$number/64 dev lan0 nodad
addr add $vip4/32 dev lo
addr add $vip6/128 dev lo nodad
route add default via 203.0.113.1
route add default via 2001:db8:2::1
route add default via 203.0.113.254 table 100
route add default via 2001:db8:2::fe dev lan0 table 100
rule add from $vip4 lookup 100
BATCH
    ip -6 -n "pollux-$server" rule add from $vip6 lookup 100
}

# The kernel of the director answers what Pollux punts, so it owns the VIPs too. Its addresses on the two networks
# follow when the data plane has made its TAPs.
director_up() {
    ip -n pollux-director -batch - <<BATCH
addr add $vip4/32 dev lo
addr add $vip6/128 dev lo nodad
BATCH
}

router_routes_up() {
    ip -n pollux-router -batch - <<BATCH
route add 198.51.100.0/24 via 192.0.2.1
route add 2001:db8:100::/64 via 2001:db8:1::1
BATCH
}

# With a namespace its links go, and with one end of a link the other.
topology_down() {
    local namespace
    for namespace in "${all_namespaces[@]}"; do
        [[ ! -e /run/netns/$namespace ]] || ip netns del "$namespace"
    done
}

# shellcheck shell=bash
# A bond in the place of a link: client0 gets two cables to the clients' network. net_tap is the one driver without a NIC
# that tells whether its link is up, so each member is a TAP, whose frames nftables carries on to a link and back; the
# cable is out when the TAP has no carrier. Sourced by scripts/lab.

# The links' ends on the director's side and on the network's, by member.
bond_wires=(client0-wire client1-wire)
bond_ports=(director-client director-spare)

# Prints what Pollux calls it: bond_device MODE. The first member's MAC is that of the link that it takes the place of.
bond_device() {
    echo "bond:$1:net_tap10,iface=member0,mac=02:00:00:00:01:01+net_tap11,iface=member1,mac=02:00:00:00:01:02"
}

# Harmless when it is there already.
bond_up() {
    local number member
    ip -n pollux-director link show member1 >/dev/null 2>&1 && return 0
    wire_up pollux-director "${bond_wires[1]}" "${bond_ports[1]}" br-client 02:00:00:00:01:02
    for number in 0 1; do
        member=member$number
        # They outlive the data plane, and the rules about them with them.
        ip -n pollux-director tuntap add "$member" mode tap multi_queue
        in_namespace pollux-director sysctl -qw "net.ipv6.conf.$member.disable_ipv6=1"
        # Before the hook that drops what comes by a link of Pollux.
        in_namespace pollux-director nft -f - <<RULES
table netdev pollux {
    chain to-$member { type filter hook ingress device ${bond_wires[number]} priority -600; fwd to "$member"; }
    chain from-$member { type filter hook ingress device $member priority -600; fwd to "${bond_wires[number]}"; }
}
RULES
    done
}

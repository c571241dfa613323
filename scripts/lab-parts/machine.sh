# shellcheck shell=bash
# A machine with PCI NICs in the place of pollux-director: qemu, without KVM, boots a Debian kernel with three kinds of
# emulated NICs behind an emulated IOMMU, and DPDK drives them through vfio-pci as on bare metal. Of each kind one is on
# the clients' network and one on the servers'. Sourced by scripts/lab.

machine_dir=$lab_dir/machine
# The kinds of NICs by their PCI device numbers: client side, then server side.
machine_nics=(e1000e virtio vmxnet3)

# start_machine [no-iommu|two-nodes]: with a kernel that does not use the IOMMU, or with two NUMA nodes.
start_machine() {
    local arguments=() iommu=on
    case ${1:-} in
    '') ;;
    no-iommu) iommu=off ;;
    two-nodes) ;;
    *) fail "start-machine: 'no-iommu' or 'two-nodes', not '$1'" ;;
    esac
    begin_machine
    build_machine_image
    if [[ ${1:-} == two-nodes ]]; then machine_with_two_nodes; else machine_with_every_nic; fi
    run_machine -m 1536 -no-reboot \
        -kernel "$(echo "$machine_kernel"/boot/vmlinuz-*)" -initrd "$machine_dir/initramfs" \
        -append "console=ttyS0 quiet panic=-1 no_timer_check nowatchdog intel_iommu=$iommu iommu=pt" \
        -serial "file:$machine_dir/console.log" \
        -chardev "socket,id=agent,path=$machine_dir/agent.sock,server=on,wait=off" -serial chardev:agent \
        "${arguments[@]}"
    # Some 7 s, but without KVM a busy machine takes its time.
    await 240 machine_has_settled || true
    machine_answers || machine_failed "the machine does not boot"
}

machine_with_every_nic() {
    local nic number=16
    for nic in "${machine_nics[@]}"; do
        machine_nic "$nic" client "$number"
        machine_nic "$nic" server "$((number + 1))"
        number=$((number + 2))
    done
    machine_nic pulled client "$number"
    machine_trunk virtio-net-pci trunk "$((number + 1))" ",disable-legacy=on,iommu_platform=on,ats=off"
    machine_trunk e1000e trunk-client "$((number + 2))"
    machine_trunk vmxnet3 trunk-server "$((number + 3))"
}

# A processor, half of the memory and a pair of NICs on each: near ones on node 0, far ones on node 1.
machine_with_two_nodes() {
    local node nic
    for node in 0 1; do
        arguments+=(-object "memory-backend-ram,id=memory$node,size=768M"
            -numa "node,nodeid=$node,cpus=$node,memdev=memory$node"
            -device "pxb-pcie,id=node$node,bus=pcie.0,bus_nr=$((64 * (node + 1))),numa_node=$node")
    done
    for nic in near far; do
        machine_nic "$nic" client 0
        machine_nic "$nic" server 1
    done
}

# Makes room for one.
begin_machine() {
    topology_is_up || fail "the lab is down; bring it up with: scripts/lab up"
    ! process_is_alive router/machine || fail "the machine runs already; end it with: scripts/lab stop-machine"
    process_has_ended pollux-dataplane || fail "the daemons run in pollux-director; end them with: scripts/lab stop-daemons"
    remove_machine_links
    mkdir -p "$machine_dir" "$lab_dir/router"
    rm -f "$machine_dir"/*.sock
}

# What keeps its NICs from writing where they must not.
machine_iommu=(-device "intel-iommu,intremap=on,caching-mode=on")

# Two processors and an IOMMU, and what the arguments say. no_timer_check on the kernel's command line: on a busy machine
# it takes an emulated timer for a broken one.
run_machine() {
    start_process router/machine qemu-system-x86_64 -machine q35,kernel-irqchip=split \
        -accel "${POLLUX_MACHINE_ACCEL:-tcg,thread=multi}" -cpu max -smp 2 -display none -nodefaults \
        "${machine_iommu[@]}" \
        -monitor "unix:$machine_dir/monitor.sock,server=on,wait=off" "$@"
    # qemu's RSS waits for ever once a queue is full that it did not read the frame for, so no connection may have that
    # much on its way: a queue has 1024 frames.
    in_namespace pollux-client sysctl -qw "net.ipv4.tcp_rmem=4096 65536 524288"
}

# Adds to `arguments` a NIC of this kind: machine_nic KIND SIDE DEVICE.
machine_nic() {
    local kind=$1 side=$2 tap=$1-$2 device mac node queues=1
    device=$(printf '%x' "$3")
    mac=52:54:00:00:00:$device
    case $kind in
    e1000e) arguments+=(-device "e1000e,id=$tap,netdev=$tap,mac=$mac,addr=$device") ;;
    virtio)
        queues=2
        arguments+=(-device "virtio-net-pci,id=$tap,netdev=$tap,mac=$mac,addr=$device,mq=on,vectors=6,rss=on,rx_queue_size=1024,$(
        )disable-legacy=on,iommu_platform=on,ats=off")
        ;;
    near | far)
        node=$([[ $kind == near ]] && echo 0 || echo 1)
        mac=52:54:00:00:$(printf '%02x:%02x' "$node" "$3")
        arguments+=(-device "pcie-root-port,id=$tap-slot,chassis=$((2 + 2 * node + $3)),bus=node$node,addr=$device"
            -device "virtio-net-pci,id=$tap,netdev=$tap,mac=$mac,bus=$tap-slot,disable-legacy=on,iommu_platform=on,ats=off")
        ;;
    # In a slot of its own, out of which it can be pulled: device_del pulled-client.
    pulled)
        arguments+=(-device "pcie-root-port,id=bay,chassis=1,addr=$device" -device "virtio-net-pci,id=$tap,netdev=$tap,$(
        )mac=$mac,bus=bay,disable-legacy=on,iommu_platform=on,ats=off")
        ;;
    vmxnet3) arguments+=(-device "vmxnet3,id=$tap,netdev=$tap,mac=$mac,addr=$device") ;;
    esac
    local flags=(vnet_hdr) header=on
    ((queues == 1)) || flags+=(multi_queue)
    # Of this one qemu fills in the checksums that the driver asks for, as hardware does; of others the kernel would, later.
    [[ $kind != e1000e ]] || flags=() header=off
    ip -n pollux-router tuntap add "$tap" mode tap "${flags[@]}"
    in_namespace pollux-router sysctl -qw "net.ipv6.conf.$tap.disable_ipv6=1"
    ip -n pollux-router link set "$tap" master "br-$side" up
    arguments+=(-netdev "tap,id=$tap,ifname=$tap,script=no,downscript=no,vhost=off,vnet_hdr=$header$( ((queues == 1)) || echo ",queues=$queues")")
}

# Adds to `arguments` a NIC whose frames come and go as datagrams, tags and all: machine_trunk MODEL NAME DEVICE [OPTIONS].
# tests/src/lab/trunk.rs is the switch. Of tagged frames the host passes to virtio those whose VLANs the driver names.
machine_trunk() {
    local model=$1 name=$2 device
    device=$(printf '%x' "$3")
    arguments+=(-device "$model,id=$name,netdev=$name,mac=52:54:00:00:00:$device,addr=$device${4:-}"
        -netdev "dgram,id=$name,local.type=unix,local.path=$machine_dir/$name-qemu.sock,remote.type=unix,$(
        )remote.path=$machine_dir/$name.sock")
}

machine_has_settled() {
    process_has_ended router/machine || machine_answers
}

machine_answers() {
    grep -q '^machine: ready' "$machine_dir/console.log" 2>/dev/null
}

machine_failed() {
    tail -n 20 "$machine_dir/console.log" "$lab_dir/router/machine.log" >&2 || true
    fail "$1; the ends of its console and of qemu's log are above"
}

# Runs a command line by the machine's shell: prints what it prints, ends as it ends.
machine_run() {
    local line status=
    process_is_alive router/machine || fail "the machine does not run; start it with: scripts/lab start-machine"
    # Only one may speak to it at a time.
    exec {turn}<"$machine_dir"
    flock "$turn"
    coproc agent { exec socat - "UNIX-CONNECT:$machine_dir/agent.sock"; }
    # shellcheck disable=SC2154 # coproc sets agent
    printf '%s\n' "$*" >&"${agent[1]}"
    while IFS= read -r line <&"${agent[0]}"; do
        line=${line%$'\r'}
        if [[ $line == "<machine: ended "* ]]; then
            status=${line//[!0-9]/}
            break
        fi
        printf '%s\n' "$line"
    done
    # shellcheck disable=SC2154 # so is agent_PID
    kill "$agent_PID" 2>/dev/null || true
    [[ -n $status ]] || machine_failed "the machine ended"
    return "$status"
}

# A command for qemu, as `set_link e1000e-client off`.
machine_monitor() {
    process_is_alive router/machine || fail "the machine does not run; start it with: scripts/lab start-machine"
    printf '%s\n' "$*" | socat -t 1 - "UNIX-CONNECT:$machine_dir/monitor.sock" | tail -n +2 | grep -v '^(qemu)' || true
}

stop_machine() {
    stop_process router/machine
    remove_machine_links
    rm -rf "$machine_dir"
}

remove_machine_links() {
    local nic side
    for nic in "${machine_nics[@]}" near far; do
        for side in client server; do
            ip -n pollux-router link del "$nic-$side" 2>/dev/null || true
        done
    done
    ip -n pollux-router link del pulled-client 2>/dev/null || true
}

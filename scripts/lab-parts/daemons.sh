# shellcheck shell=bash
# The two daemons of Pollux, in pollux-director. Sourced by scripts/lab.

director_ports=(client0 server0)
# Lines of [dataplane] beside those that are always there.
settings_more=()
# The mode of the bond that client0 is; empty: it is none.
bond_mode=

start_daemons() {
    local workers=0 pmd=any huge=any keep_state=no
    settings_more=()
    bond_mode=
    while (($# > 0)); do
        case $1 in
        --workers) workers=${2:?a number must follow --workers} && shift ;;
        --pmd) pmd=${2:?af_xdp or af_packet must follow --pmd} && shift ;;
        --bond) bond_mode=${2:?active-backup or lacp must follow --bond} && shift ;;
        --no-huge) huge=no ;;
        --keep-state) keep_state=yes ;;
        --set) settings_more+=("${2:?a line of [dataplane] must follow --set}") && shift ;;
        *) fail "start-daemons does not know '$1'" ;;
        esac
        shift
    done
    [[ $pmd == any || $pmd == af_xdp || $pmd == af_packet ]] || fail "--pmd is af_xdp or af_packet, not '$pmd'"
    topology_is_up || fail "the lab is down; bring it up with: scripts/lab up"
    ! process_is_alive pollux-dataplane || fail "the daemons run already; end them with: scripts/lab stop-daemons"
    programs_are_built pollux-dataplane polluxd pollux

    # net_af_xdp finds only one queue on a veth, which has no "combined" channels to be counted. net_af_packet spreads
    # flows over any number of packet sockets, so it is the one for several workers.
    ((workers > 0)) || workers=$(($(nproc) > 1 ? 2 : 1))
    if ((workers > 1)); then
        [[ $pmd != af_xdp ]] || fail "net_af_xdp has one queue on a veth: say --workers 1, or --pmd af_packet"
        pmd=af_packet
    fi
    if [[ $huge == any ]]; then
        huge_pages_take && huge=yes || huge=no
    fi
    [[ $keep_state == yes ]] || forget_state
    [[ -z $bond_mode ]] || bond_up
    mkdir -p "$run_dir" "$state_dir"

    if [[ $pmd == any ]]; then
        start_dataplane af_xdp "$workers" "$huge" || {
            echo "net_af_xdp does not work on this kernel; taking net_af_packet instead"
            pmd=af_packet
        }
    fi
    [[ $pmd == any ]] || start_dataplane "$pmd" "$workers" "$huge" || dataplane_failed
    put_addresses
    start_polluxd
}

# The configuration, and the connection table: pollux-dataplane keeps it where memory is a file.
forget_state() {
    rm -rf "$state_dir" /dev/shm/pollux-lab-connections "$huge_pages_mount/pollux-lab-connections" \
        "$run_dir/pollux-lab-connections" /dev/shm/pollux-lab-backup-connections
}

programs_are_built() {
    local program
    for program in "$@"; do
        [[ -x $bin_dir/$program ]] ||
            fail "$bin_dir/$program is not there; build it with: cargo build --release"
    done
}

# Prints what DPDK calls the link of a port: device PMD PORT WORKERS.
device() {
    local number=0
    [[ $2 == client0 ]] || number=1
    if [[ $2 == client0 && -n $bond_mode ]]; then
        bond_device "$bond_mode"
        return
    fi
    case $1 in
    af_xdp) echo "net_af_xdp$number,iface=$2-wire,start_queue=0,queue_count=$3" ;;
    af_packet) echo "net_af_packet$number,iface=$2-wire,qpairs=$3" ;;
    esac
}

write_settings() {
    local pmd=$1 workers=$2 huge=$3 prefix=$4 port
    echo "# Written by scripts/lab."
    echo "[dataplane]"
    echo "cores = [$(seq -s ', ' 0 $((workers - 1)))]"
    echo "connections = 100000"
    echo 'poll = "adaptive"'
    echo "huge_pages = \"$([[ $huge == yes ]] && echo always || echo never)\""
    echo "file_prefix = \"$prefix\""
    for port in ${settings_more[@]+"${settings_more[@]}"}; do echo "$port"; done
    for port in "${director_ports[@]}"; do
        echo
        echo "[[dataplane.port]]"
        echo "name = \"$port\""
        echo "device = \"$(device "$pmd" "$port" "$workers")\""
    done
}

# Succeeds when the data plane is up. Called as a condition, so `set -e` does not hold in here.
start_dataplane() {
    write_settings "$@" pollux-lab >"$lab_dir/pollux.toml"
    "$bin_dir/pollux" settings "$lab_dir/pollux.toml" >"$lab_dir/dataplane.json" ||
        fail "pollux does not take $lab_dir/pollux.toml"
    rm -f "$run_dir/dataplane.sock"
    start_process pollux-dataplane "$bin_dir/pollux-dataplane" --settings "$lab_dir/dataplane.json" \
        --run-dir "$run_dir" --state-dir "$state_dir"
    await 10 dataplane_has_settled && process_is_alive pollux-dataplane && return 0
    stop_process pollux-dataplane
    return 1
}

# Up and answering, or dead.
dataplane_has_settled() {
    process_is_alive pollux-dataplane || return 0
    [[ -S $run_dir/dataplane.sock ]] || return 1
    local port
    for port in "${director_ports[@]}"; do
        ip -n pollux-director link show "$port" >/dev/null 2>&1 || return 1
    done
}

dataplane_failed() {
    tail -n 20 "$lab_dir/pollux-dataplane.log" >&2
    fail "pollux-dataplane does not start; the end of $lab_dir/pollux-dataplane.log is above"
}

start_polluxd() {
    process_is_alive pollux-dataplane || fail "no data plane runs; start both with: scripts/lab start-daemons"
    process_has_ended polluxd || fail "polluxd runs already"
    start_process polluxd "$bin_dir/polluxd" --config "$lab_dir/pollux.toml" \
        --run-dir "$run_dir" --state-dir "$state_dir"
    await 5 polluxd_has_settled
    process_is_alive pollux-dataplane || dataplane_failed
    polluxd_answers && return 0
    tail -n 20 "$lab_dir/polluxd.log" >&2
    fail "polluxd does not answer; the end of $lab_dir/polluxd.log is above"
}

# Answering, or never going to: one of the two is dead.
polluxd_has_settled() {
    process_has_ended polluxd || process_has_ended pollux-dataplane || polluxd_answers
}

polluxd_answers() {
    POLLUX_RUN_DIR=$run_dir "$bin_dir/pollux" show ports >/dev/null 2>&1
}

# The director's own addresses are the kernel's, on the TAPs that exist while the data plane runs.
put_addresses() {
    ip -n pollux-director -batch - <<BATCH
link set client0 up
link set server0 up
addr replace 192.0.2.1/24 dev client0
addr replace 203.0.113.1/24 dev server0
addr replace 2001:db8:1::1/64 dev client0 nodad
addr replace 2001:db8:2::1/64 dev server0 nodad
route replace default via 192.0.2.254
route replace default via 2001:db8:1::fe
BATCH
}

stop_daemons() {
    local daemon
    for daemon in polluxd pollux-dataplane; do
        stop_process "$daemon"
    done
}

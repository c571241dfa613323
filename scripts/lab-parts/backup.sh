# shellcheck shell=bash
# A second director, pollux-backup, on the same two networks as the first: what a take-over needs. Sourced by scripts/lab.

backup_dir=$lab_dir/backup

start_backup() {
    process_is_alive polluxd || fail "the first director does not run; start it with: scripts/lab start-daemons"
    [[ ! -e /run/netns/pollux-backup ]] || fail "the second director is there already; \`scripts/lab down\` takes all away"
    programs_are_built pollux-dataplane polluxd pollux
    ip netns add pollux-backup
    settings_before_links pollux-backup
    wire_up pollux-backup client0-wire backup-client br-client 02:00:00:00:01:02
    wire_up pollux-backup server0-wire backup-server br-server 02:00:00:00:02:02
    ip -n pollux-backup addr add "$vip4/32" dev lo
    mkdir -p "$backup_dir/run" "$backup_dir/state"
    write_settings af_packet 1 no pollux-lab-backup >"$backup_dir/pollux.toml"
    "$bin_dir/pollux" settings "$backup_dir/pollux.toml" >"$backup_dir/dataplane.json" ||
        fail "pollux does not take $backup_dir/pollux.toml"
    start_process backup/pollux-dataplane "$bin_dir/pollux-dataplane" --settings "$backup_dir/dataplane.json" \
        --run-dir "$backup_dir/run" --state-dir "$backup_dir/state"
    await 10 backup_dataplane_answers || fail "see $backup_dir/pollux-dataplane.log"
    start_process backup/polluxd "$bin_dir/polluxd" --config "$backup_dir/pollux.toml" \
        --run-dir "$backup_dir/run" --state-dir "$backup_dir/state"
    await 5 backup_polluxd_answers || fail "see $backup_dir/polluxd.log"
    put_own_addresses pollux-director 2
    put_own_addresses pollux-backup 3
}

backup_dataplane_answers() {
    [[ -S $backup_dir/run/dataplane.sock ]] && ip -n pollux-backup link show server0 >/dev/null 2>&1
}

backup_polluxd_answers() {
    POLLUX_RUN_DIR=$backup_dir/run "$bin_dir/pollux" show ports >/dev/null 2>&1
}

# A director's own IPv4 addresses, with which it is reached whoever is in charge: put_own_addresses NAMESPACE NUMBER.
put_own_addresses() {
    ip -4 -n "$1" addr flush dev client0
    ip -4 -n "$1" addr flush dev server0
    ip -n "$1" -batch - <<BATCH
link set client0 up
link set server0 up
addr add 192.0.2.$2/24 dev client0
addr add 203.0.113.$2/24 dev server0
route replace default via 192.0.2.254
BATCH
}

# shellcheck shell=bash
# What is there and what is alive. Sourced by scripts/lab.

status() {
    local namespace server daemon
    if ! topology_is_up; then
        echo "The lab is down. Bring it up with: scripts/lab up"
        return
    fi
    printf '%-16s %-14s %-38s %s\n' NAMESPACE INTERFACE ADDRESSES PROCESSES
    for namespace in "${all_namespaces[@]}"; do
        [[ ! -e /run/netns/$namespace ]] || status_of_namespace "$namespace"
    done
    echo
    printf '%-18s %-12s %s\n' PROCESS STATE LOG
    for daemon in pollux-dataplane polluxd; do
        status_of_process "$daemon" "$lab_dir/$daemon.log"
    done
    for server in "${servers[@]}"; do
        for daemon in "${server_daemons[@]}"; do
            status_of_process "$server/$daemon" "$lab_dir/$server/$daemon.log"
        done
    done
}

status_of_namespace() {
    local interface addresses processes
    processes=$(ip netns pids "$1" | wc -l)
    while read -r interface _ addresses; do
        printf '%-16s %-14s %-38s %s\n' "$1" "${interface%@*}" "$(tr ' ' '\n' <<<"$addresses" |
            grep / | grep -v -e '^127\.' -e '^::1/' -e '^fe80:' | xargs)" "$processes"
    done < <(ip -n "$1" -brief address | grep -v '^lo .* 127.0.0.1/8 ::1/128 *$' | grep /)
}

status_of_process() {
    local state=dead
    [[ -e $lab_dir/$1.pid ]] || state="not started"
    ! process_is_alive "$1" || state=alive
    printf '%-18s %-12s %s\n' "$1" "$state" "$2"
}

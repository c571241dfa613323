# shellcheck shell=bash
# Processes of the lab. Each has a name: a daemon's own for what runs in pollux-director, else SERVER/DAEMON. Its log
# and its pid are in files of that name below $lab_dir. Sourced by scripts/lab.

namespace_of() {
    [[ $1 == */* ]] && echo "pollux-${1%/*}" || echo pollux-director
}

# A pid from a file may long be somebody else's; the namespace says whether it is ours. A zombie has none.
process_is_alive() {
    local file=$lab_dir/$1.pid
    [[ -s $file && /proc/$(<"$file")/ns/net -ef /run/netns/$(namespace_of "$1") ]]
}

process_has_ended() {
    ! process_is_alive "$1"
}

# start_process NAME COMMAND...
start_process() {
    local name=$1
    shift
    setsid ip netns exec "$(namespace_of "$name")" "$@" >>"$lab_dir/$name.log" 2>&1 </dev/null {lock}>&- &
    echo $! >"$lab_dir/$name.pid"
    await 2 process_has_begun "$name" || fail "$name does not start"
}

# In its namespace, or over already.
process_has_begun() {
    process_is_alive "$1" || ! kill -0 "$(<"$lab_dir/$1.pid")" 2>/dev/null
}

stop_process() {
    local file=$lab_dir/$1.pid
    if process_is_alive "$1"; then
        kill "$(<"$file")" 2>/dev/null || true
        await 3 process_has_ended "$1" || kill -KILL "$(<"$file")" 2>/dev/null || true
        await 3 process_has_ended "$1" || fail "process $(<"$file") ($1) does not end"
    fi
    rm -f "$file"
}

# Ends every process inside the namespaces, however it got there.
processes_down() {
    local processes
    mapfile -t processes < <(lab_processes)
    ((${#processes[@]} > 0)) || return 0
    kill "${processes[@]}" 2>/dev/null || true
    await 1 no_processes && return 0
    mapfile -t processes < <(lab_processes)
    kill -KILL "${processes[@]}" 2>/dev/null || true
    await 5 no_processes || fail "these processes do not end: $(lab_processes | xargs)"
}

lab_processes() {
    local namespace
    for namespace in "${all_namespaces[@]}"; do
        [[ ! -e /run/netns/$namespace ]] || ip netns pids "$namespace" 2>/dev/null || true
    done
}

no_processes() {
    [[ -z $(lab_processes) ]]
}


# Names of what runs, asked of polluxd; the rest is above.
_pollux_with_names() {
    # The words before the cursor as they were written: bash cuts addresses at their colons.
    local line=${COMP_LINE:0:COMP_POINT} words kind service=() index
    read -ra words <<<"$line"
    [[ $line != *[[:space:]] ]] || words+=("")
    local last=$((${#words[@]} - 1))
    local current=${words[last]} previous=${words[last - 1]}
    case $previous in
    -t | --tcp-service) kind=tcp ;;
    -u | --udp-service) kind=udp ;;
    --sctp-service) kind=sctp ;;
    -f | --fwmark-service) kind=fwmark ;;
    -r | --real-server) kind=server ;;
    -s | --scheduler) kind=scheduler ;;
    *) [[ ${words[1]} == set && $current != -* ]] && kind=setting ;;
    esac
    if [[ -z ${kind-} ]]; then
        _pollux "$@"
        return
    fi
    for ((index = 1; index < last - 1; index++)); do
        case ${words[index]} in
        -t | --tcp-service | -u | --udp-service | --sctp-service | -f | --fwmark-service)
            service=("${words[index]}" "${words[index + 1]}")
            ;;
        esac
    done
    mapfile -t COMPREPLY < <(compgen -W "$(pollux names "$kind" "${service[@]}" 2>/dev/null)" -- "$current")
    # Of a word with colons readline replaces what is behind the last one.
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")
    fi
    [[ $kind != setting ]] || compopt -o nospace 2>/dev/null
}
complete -F _pollux_with_names -o bashdefault -o default pollux

# Names of what runs, asked of polluxd.
_pollux_names() {
    local kind=$1 index
    local -a service names suffix
    if [[ $kind == server ]]; then
        for ((index = 1; index < CURRENT - 1; index++)); do
            case ${words[index]} in
            -t | --tcp-service | -u | --udp-service | --sctp-service | -f | --fwmark-service)
                service=("${words[index]}" "${words[index + 1]}")
                ;;
            esac
        done
    fi
    names=(${(f)"$(pollux names $kind $service 2>/dev/null)"})
    # Behind a setting's name comes its value.
    [[ $kind != setting ]] || suffix=(-S '')
    compadd "${suffix[@]}" -a names
}


# Names of what runs, asked of polluxd.
complete -c pollux -s t -l tcp-service -x -a '(pollux names tcp 2>/dev/null)'
complete -c pollux -s u -l udp-service -x -a '(pollux names udp 2>/dev/null)'
complete -c pollux -l sctp-service -x -a '(pollux names sctp 2>/dev/null)'
complete -c pollux -s f -l fwmark-service -x -a '(pollux names fwmark 2>/dev/null)'
complete -c pollux -s r -l real-server -x -a '(pollux names server 2>/dev/null)'
complete -c pollux -n '__fish_seen_subcommand_from service' -s s -l scheduler -x -a '(pollux names scheduler 2>/dev/null)'
complete -c pollux -n '__fish_seen_subcommand_from set' -f -a '(pollux names setting 2>/dev/null)'

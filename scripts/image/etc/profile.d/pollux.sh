# shellcheck shell=sh
# Whoever logs in sees how it is, and how to go on.
case $- in
*i*)
    if [ -s /run/pollux-appliance/wrong ]; then
        echo "What the set-up at boot said (journalctl -b -u pollux-appliance has all of it):"
        cat /run/pollux-appliance/wrong
    fi
    pollux show ports 2>/dev/null || echo "Pollux does not answer. sudo pollux doctor says why."
    echo "pollux help: the commands; pollux top: what goes on; sudo pollux doctor: what is wrong"
    ;;
esac

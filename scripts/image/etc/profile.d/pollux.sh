# shellcheck shell=sh
# Whoever logs in sees how it is, and how to go on.
case $- in
*i*)
    pollux show ports 2>/dev/null || echo "Pollux does not answer. sudo pollux doctor says why."
    echo "pollux help: the commands; pollux top: what goes on; sudo pollux doctor: what is wrong"
    ;;
esac

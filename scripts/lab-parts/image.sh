# shellcheck shell=bash
# The appliance's disk image in the director's place: qemu boots it with a NIC on each network and a USB stick with the
# lab's configuration, and nothing else tells it anything. Sourced by scripts/lab.

image_key=$lab_dir/image-key

# start_image DISK [NIC] [OPTION...]
start_image() {
    local disk=${1:-} nic=e1000e label=POLLUX line='' wait=yes write=snapshot=on uefi=no arguments=()
    [[ -f $disk ]] || fail "start-image wants a disk image; scripts/build-image makes one"
    shift
    while (($# > 0)); do
        case $1 in
        --keep) write=snapshot=off,cache=unsafe ;;
        --no-iommu) machine_iommu=() ;;
        --uefi) uefi=yes ;;
        --no-stick) label= ;;
        --no-wait) wait=no ;;
        --stick) label=${2:?--stick wants a label} && shift ;;
        --stick-line) line=${2:?--stick-line wants a line of pollux.toml} && shift ;;
        -*) fail "start-image: no such option: $1" ;;
        *)
            nic=$1
            [[ " ${machine_nics[*]} " == *" $nic "* ]] || fail "no such NIC: $nic; there are: ${machine_nics[*]}"
            ;;
        esac
        shift
    done
    begin_machine
    [[ -e $image_key ]] || ssh-keygen -q -t ed25519 -N '' -f "$image_key"
    machine_nic "$nic" client 16
    machine_nic "$nic" server 17
    if [[ -n $label ]]; then
        build_stick "$label" "$line"
        arguments+=(-drive "file=$machine_dir/stick,format=raw,if=none,id=stick,readonly=on"
            -device qemu-xhci -device "usb-storage,drive=stick")
    fi
    # Without, qemu's machine has a BIOS. What UEFI keeps is kept as long as the machine runs.
    if [[ $uefi == yes ]]; then
        cp /usr/share/OVMF/OVMF_VARS_4M.fd "$machine_dir/uefi-variables"
        arguments+=(-drive "file=/usr/share/OVMF/OVMF_CODE_4M.fd,format=raw,if=pflash,unit=0,readonly=on"
            -drive "file=$machine_dir/uefi-variables,format=raw,if=pflash,unit=1")
    fi
    run_machine -m 2048 \
        -drive "file=$disk,format=raw,if=none,id=disk,$write" -device virtio-blk-pci,drive=disk,bootindex=1 \
        -chardev "socket,id=console,path=$machine_dir/console.sock,server=on,wait=off,logfile=$machine_dir/console.log" \
        -serial chardev:console "${arguments[@]}"
    [[ $wait == yes ]] || return 0
    # Less than a minute when nothing else runs.
    await 400 image_has_settled || true
    image_answers || machine_failed "the image does not boot"
    # SSH comes later than the service.
    await 120 image_run true || machine_failed "nobody can log in"
}

# What an operator puts on a stick: docs/image.md. build_stick LABEL LINE, the line coming last in pollux.toml.
build_stick() {
    local tree=$machine_dir/stick-tree
    rm -rf "$tree"
    mkdir -p "$tree/network"
    cp "$image_key.pub" "$tree/authorized_keys"
    echo "${1,,}-lab" >"$tree/hostname"
    {
        printf '[dataplane]\ncores = [0, 1]\nconnections = 20000\npoll = "adaptive"\nhuge_pages = "always"\n'
        printf '[[dataplane.port]]\nname = "client0"\ndevice = "0000:00:10.0"\n'
        printf '[[dataplane.port]]\nname = "server0"\ndevice = "0000:00:11.0"\n'
        printf '[control]\nsocket_group = "pollux"\n'
        image_service "$vip4:80" nat 203.0.113.{11,12,13}:80
        image_service "[$vip6]:80" nat '['2001:db8:2::{11,12,13}']:80'
        image_service "$vip4:8080" tunnel 203.0.113.{11,12,13}:8080
        image_service "[$vip6]:8080" direct '['2001:db8:2::{11,12,13}']:8080'
        [[ -z $2 ]] || printf '%s\n' "$2"
    } >"$tree/pollux.toml"
    image_network client0 192.0.2.1/24 2001:db8:1::1/64 192.0.2.254 2001:db8:1::fe
    image_network server0 203.0.113.1/24 2001:db8:2::1/64
    image_network lo "$vip4/32" "$vip6/128"
    rm -f "$machine_dir/stick"
    truncate -s 16M "$machine_dir/stick"
    mkfs.vfat -n "$1" "$machine_dir/stick" >/dev/null
    mcopy -s -i "$machine_dir/stick" "$tree"/* ::/
}

# image_service VIP METHOD SERVER...
image_service() {
    local server
    printf '[[service]]\nprotocol = "tcp"\naddress = "%s"\nscheduler = "rr"\n' "$1"
    for server in "${@:3}"; do
        printf '[[service.server]]\naddress = "%s"\nmethod = "%s"\n' "$server" "$2"
    done
}

# image_network INTERFACE ADDRESS4 ADDRESS6 [GATEWAY...]
image_network() {
    printf '[Match]\nName=%s\n[Network]\nAddress=%s\nAddress=%s\n' "$1" "$2" "$3" >"$tree/network/10-$1.network"
    (($# < 4)) || printf 'Gateway=%s\n' "${@:4}" >>"$tree/network/10-$1.network"
}

image_has_settled() {
    process_has_ended router/machine || image_answers
}

# A client's request is, which is all that counts.
image_answers() {
    in_namespace pollux-client curl -sS --fail --max-time 2 -o /dev/null "http://$vip4/" 2>/dev/null
}

image_run() {
    process_is_alive router/machine || fail "the image does not run; start it with: scripts/lab start-image DISK"
    in_namespace pollux-client ssh -q -i "$image_key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o ConnectTimeout=20 admin@192.0.2.1 "$@"
}

# Types a command at the console, as whoever stands before it, and prints what that shows until it has ended.
image_console() {
    local log=$machine_dir/console.log before
    process_is_alive router/machine || fail "the image does not run; start it with: scripts/lab start-image DISK"
    # Its user is logged in without being asked.
    await 400 grep -qs 'admin@.*\$ ' "$log" || machine_failed "the console has no prompt"
    before=$(stat -c %s "$log")
    # What is typed is shown as well, so the mark is not typed as it comes out.
    printf '%s; echo "<ended with ""$?>"\r' "$*" | socat -t 1 - "UNIX-CONNECT:$machine_dir/console.sock" >/dev/null
    await 120 console_has_ended "$((before + 1))" || machine_failed "the console does not come to an end with: $*"
    tail -c "+$((before + 1))" "$log"
    console_has_ended "$((before + 1))" 0
}

# Whether a command has ended, with this status if one is named, in the log from this byte on.
console_has_ended() {
    tail -c "+$1" "$machine_dir/console.log" | grep -q "<ended with ${2:-[0-9]*}>"
}

# Presses its power button and waits until it is off.
stop_image() {
    process_is_alive router/machine || fail "the image does not run; start it with: scripts/lab start-image DISK"
    machine_monitor system_powerdown
    await 120 process_has_ended router/machine || machine_failed "the image does not shut down"
    stop_machine
}

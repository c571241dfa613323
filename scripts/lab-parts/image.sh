# shellcheck shell=bash
# The appliance's disk image in the director's place: qemu boots it with a NIC on each network and a USB stick with the
# lab's configuration, and nothing else tells it anything. Sourced by scripts/lab.

start_image() {
    local disk=${1:-} nic=${2:-e1000e} arguments=()
    [[ -f $disk ]] || fail "start-image wants a disk image; scripts/build-image makes one"
    [[ " ${machine_nics[*]} " == *" $nic "* ]] || fail "no such NIC: $nic; there are: ${machine_nics[*]}"
    begin_machine
    build_stick
    machine_nic "$nic" client 16
    machine_nic "$nic" server 17
    run_machine -m 2048 \
        -drive "file=$disk,format=raw,if=none,id=disk,snapshot=on" -device virtio-blk-pci,drive=disk,bootindex=1 \
        -drive "file=$machine_dir/stick,format=raw,if=none,id=stick,readonly=on" -device qemu-xhci -device usb-storage,drive=stick \
        -chardev "socket,id=console,path=$machine_dir/console.sock,server=on,wait=off,logfile=$machine_dir/console.log" \
        -serial chardev:console "${arguments[@]}"
    # Less than a minute when nothing else runs.
    await 400 image_has_settled || true
    image_answers || machine_failed "the image does not boot"
    # SSH comes later than the service.
    await 120 image_run true || machine_failed "nobody can log in"
}

# What an operator puts on a stick: docs/image.md.
build_stick() {
    local tree=$machine_dir/stick-tree
    rm -rf "$tree"
    mkdir -p "$tree/network"
    [[ -e $machine_dir/key ]] || ssh-keygen -q -t ed25519 -N '' -f "$machine_dir/key"
    cp "$machine_dir/key.pub" "$tree/authorized_keys"
    echo pollux-lab >"$tree/hostname"
    {
        printf '[dataplane]\ncores = [0, 1]\nconnections = 20000\npoll = "adaptive"\nhuge_pages = "always"\n'
        printf '[[dataplane.port]]\nname = "client0"\ndevice = "0000:00:10.0"\n'
        printf '[[dataplane.port]]\nname = "server0"\ndevice = "0000:00:11.0"\n'
        printf '[control]\nsocket_group = "pollux"\n'
        image_service "$vip4:80" nat 203.0.113.{11,12,13}:80
        image_service "[$vip6]:80" nat '['2001:db8:2::{11,12,13}']:80'
        image_service "$vip4:8080" tunnel 203.0.113.{11,12,13}:8080
        image_service "[$vip6]:8080" direct '['2001:db8:2::{11,12,13}']:8080'
    } >"$tree/pollux.toml"
    image_network client0 192.0.2.1/24 2001:db8:1::1/64 192.0.2.254 2001:db8:1::fe
    image_network server0 203.0.113.1/24 2001:db8:2::1/64
    image_network lo "$vip4/32" "$vip6/128"
    rm -f "$machine_dir/stick"
    truncate -s 16M "$machine_dir/stick"
    mkfs.vfat -n POLLUX "$machine_dir/stick" >/dev/null
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
    in_namespace pollux-client ssh -q -i "$machine_dir/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o ConnectTimeout=20 admin@192.0.2.1 "$@"
}

# shellcheck shell=bash
# What the machine with PCI NICs boots: an initramfs with the programs under test, everything from this machine's own
# packages. Sourced by scripts/lab.

# The kernel is not installed here but only unpacked, by scripts/install-dependencies.
machine_kernel=${POLLUX_CACHE_DIR:-/var/cache/pollux}/machine-kernel
machine_programs=("$bin_dir/pollux-dataplane" "$bin_dir/polluxd" "$bin_dir/pollux")
# One of these is missing where there is no such NIC to drive; what a program wants of DPDK beside them, ldd knows.
machine_drivers=(bus_pci bus_vdev mempool_ring mempool_stack net_e1000 net_virtio net_vmxnet3 net_tap net_bond net_null)

# Makes $machine_dir/initramfs.
build_machine_image() {
    local tree=$machine_dir/root library module modules version
    [[ -d $machine_kernel ]] || fail "there is no kernel to boot; scripts/install-dependencies unpacks one"
    programs_are_built pollux-dataplane polluxd pollux
    modules=$(echo "$machine_kernel"/lib/modules/*)
    version=${modules##*/}
    rm -rf "$tree"
    mkdir -p "$tree"/{bin,sbin,etc/pollux,proc,sys,dev,run/pollux,tmp,var/lib/pollux,lib/modules/$version,$(dpdk_driver_dir)}
    ln -s /run "$tree/var/run"
    cp /bin/busybox "$tree/bin/"
    busybox --list | grep -vx busybox | while read -r applet; do ln -sf busybox "$tree/bin/$applet"; done
    # The shell too: busybox's own would take its own `ip`.
    cp -L --remove-destination /bin/dash "$(command -v ip)" "$(command -v ethtool)" "$tree/bin/"
    ln -sf dash "$tree/bin/sh"
    for program in "${machine_programs[@]}"; do
        strip -o "$tree/bin/${program##*/}" "$program"
    done
    dpdk_drivers | while read -r library; do
        cp -d "$library" "$tree$(dpdk_driver_dir)/"
    done
    { dpdk_drivers && printf '%s\n' "$tree"/bin/{dash,ip,ethtool,pollux,polluxd,pollux-dataplane}; } | libraries_of |
        while read -r library; do
            mkdir -p "$tree${library%/*}"
            # A bus that drivers need is a driver too: as two files EAL would load it twice, if it came to the driver first.
            if [[ -e $tree$(dpdk_driver_dir)/${library##*/} ]]; then
                ln -sf "$(dpdk_driver_dir)/${library##*/}" "$tree$library"
            else
                cp -L "$library" "$tree$library"
            fi
        done
    # The names of users, for `pollux` and the group of its sockets.
    printf 'root:x:0:0:root:/:/bin/sh\n' >"$tree/etc/passwd"
    printf 'root:x:0:\npollux:x:990:\n' >"$tree/etc/group"
    for module in irqbypass vfio vfio_virqfd vfio_iommu_type1 vfio-pci-core vfio-pci tun tap vhost_iotlb vhost vhost_net \
        virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci \
        failover net_failover virtio_net llc stp mrp garp 8021q macvlan; do
        library=$(find "$modules" -name "$module.ko" | head -n 1)
        [[ -z $library ]] || cp "$library" "$tree/lib/modules/$version/"
    done
    depmod -b "$tree" "$version" 2>/dev/null
    cp "$root/scripts/machine"/* "$tree/bin/"
    ln -s bin/machine-init "$tree/init"
    (cd "$tree" && find . | cpio --quiet -o -H newc >"$machine_dir/initramfs")
    rm -rf "$tree"
}

# Where EAL looks for its drivers.
dpdk_driver_dir() {
    echo /usr/lib/x86_64-linux-gnu/dpdk/pmds-*
}

dpdk_drivers() {
    local driver
    for driver in "${machine_drivers[@]}"; do
        find "$(dpdk_driver_dir)" -name "librte_$driver.so.[0-9]*"
    done
}

# The shared libraries of the files named on standard input.
libraries_of() {
    xargs ldd | awk '$2 == "=>" && $3 ~ /^\// {print $3} $1 ~ /^\/.*ld-linux/ {print $1}' | sort -u
}

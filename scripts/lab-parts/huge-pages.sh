# shellcheck shell=bash
# Huge pages for the data plane. Sourced by scripts/lab.

huge_pages=256 # of 2 MB
huge_pages_file=/proc/sys/vm/nr_hugepages
huge_pages_mount=$lab_dir/huge-pages

# Takes huge pages from the machine, and notes how many it got so that `down` gives exactly these back.
huge_pages_take() {
    local before after
    [[ ! -e $lab_dir/huge-pages-taken ]] || return 0
    [[ $(awk '/^Hugepagesize/ {print $2}' /proc/meminfo) == 2048 ]] || return 1
    before=$(<$huge_pages_file)
    echo "$before" >"$lab_dir/huge-pages-before"
    echo $((before + huge_pages)) >$huge_pages_file
    after=$(<$huge_pages_file)
    echo $((after - before)) >"$lab_dir/huge-pages-taken"
    if ((after - before < huge_pages)); then
        huge_pages_return
        return 1
    fi
    mkdir -p "$huge_pages_mount"
    mount -t hugetlbfs -o pagesize=2M pollux-lab "$huge_pages_mount"
}

huge_pages_return() {
    if mountpoint -q "$huge_pages_mount"; then
        umount "$huge_pages_mount"
    fi
    if [[ -s $lab_dir/huge-pages-taken ]]; then
        local now taken
        now=$(<$huge_pages_file)
        taken=$(<"$lab_dir/huge-pages-taken")
        # Somebody else may have given back more than was his.
        echo $((now > taken ? now - taken : 0)) >$huge_pages_file
    elif [[ -s $lab_dir/huge-pages-before ]]; then
        # Killed in between: others may have changed the number since, but this is the best that is known.
        cat "$lab_dir/huge-pages-before" >$huge_pages_file
    fi
    rm -f "$lab_dir/huge-pages-taken" "$lab_dir/huge-pages-before"
}

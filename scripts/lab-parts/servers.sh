# shellcheck shell=bash
# The real servers: nginx for TCP, dnsmasq for UDP, vsftpd, and the end of the tunnels. Sourced by scripts/lab.

# Every server serves these same bytes. They look random, so that a byte in the wrong place shows, yet they are known:
# sha256 a9143606a05b197f2ef576a6dfc3d4daef37bfc9cbcd7ce5008e177cec227e9e.
download_bytes=$((100 * 1024 * 1024))

server_daemons=(nginx dnsmasq decap vsftpd)

servers_are_up() {
    local server daemon
    for server in "${servers[@]}"; do
        for daemon in "${server_daemons[@]}"; do
            process_is_alive "$server/$daemon" || return 1
        done
    done
}

servers_up() {
    local server
    [[ -x $bin_dir/pollux-lab-decap ]] ||
        fail "$bin_dir/pollux-lab-decap is not there; build it with: cargo build --release"
    mkdir -p "$lab_dir/www"
    openssl enc -aes-128-ctr -K 706f6c6c7578 -iv 0 -in /dev/zero 2>/dev/null |
        head -c $download_bytes >"$lab_dir/www/100M" || true
    [[ $(stat -c %s "$lab_dir/www/100M") == "$download_bytes" ]] || fail "cannot write $lab_dir/www/100M"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=pollux.test \
        -keyout "$lab_dir/www/key.pem" -out "$lab_dir/www/certificate.pem" 2>/dev/null ||
        fail "cannot write $lab_dir/www/certificate.pem"
    for server in "${servers[@]}"; do
        mkdir -p "$lab_dir/$server/uploads"
        decap_up "$server"
        nginx_up "$server"
        dnsmasq_up "$server"
        vsftpd_up "$server"
    done
    for server in "${servers[@]}"; do
        await 3 test -e "$lab_dir/$server/decap.ready" || fail "see $lab_dir/$server/decap.log"
        await 3 process_is_alive "$server/dnsmasq" || fail "see $lab_dir/$server/dnsmasq.log"
        await 3 process_is_alive "$server/nginx" || fail "see $lab_dir/$server/nginx.log"
        await 3 listens_on_port_21 "$server" || fail "see $lab_dir/$server/vsftpd.log"
    done
}

decap_up() {
    local dir=$lab_dir/$1
    start_process "$1/decap" "$bin_dir/pollux-lab-decap" --ready-file "$dir/decap.ready"
}

nginx_up() {
    local dir=$lab_dir/$1
    cat >"$dir/nginx.conf" <<CONF
# An absolute path: nginx looks for modules below its prefix otherwise.
load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;
user root;
pid $dir/nginx.pid;
error_log $dir/nginx.log;
worker_processes 1;
# Another machine's processor, in truth: here the director goes first.
worker_priority 10;
events { worker_connections 8192; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    default_type text/plain;
    client_max_body_size 0;
    client_body_temp_path $dir/bodies;
    proxy_temp_path $dir/proxy;
    fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi;
    scgi_temp_path $dir/scgi;
    server {
        listen 80 backlog=4096;
        listen 8080 backlog=4096;
        listen [::]:80 backlog=4096;
        listen [::]:8080 backlog=4096;
        listen 443 ssl;
        listen [::]:443 ssl;
        ssl_certificate $lab_dir/www/certificate.pem;
        ssl_certificate_key $lab_dir/www/key.pem;
        # A server is ill while this file is there.
        if (-e $dir/ill) { return 500; }
        # Any page is the server's name, and who it believes is asking.
        location / { return 200 "$1\n"; }
        location = /client { return 200 "\$remote_addr\n"; }
        # 100 MiB as fast as it goes, and at 16 kB a second: a connection that lives as long as a test wants.
        location = /100M { root $lab_dir/www; }
        location = /hold { alias $lab_dir/www/100M; limit_rate 16k; }
        # POST reads the whole body and answers its length; PUT /uploads/NAME keeps it.
        location = /upload { echo_read_request_body; echo "$1 \$content_length"; }
        location /uploads/ { root $dir; dav_methods PUT; }
    }
}
CONF
    in_namespace "pollux-$1" nginx -e "$dir/nginx.log" -c "$dir/nginx.conf" {lock}>&-
}

# Answers the TXT question `whoami.pollux.test` with the server's name, from the address that was asked; `large` with
# the name and 3750 bytes more, which is several packets.
dnsmasq_up() {
    local dir=$lab_dir/$1
    local number=1${1#rs}
    local bytes=250
    local large=$1 part
    for part in {1..15}; do
        large+=,$(printf "%0${bytes}d" "$part")
    done
    in_namespace "pollux-$1" dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --user=root \
        --pid-file="$dir/dnsmasq.pid" --log-facility="$dir/dnsmasq.log" --bind-interfaces \
        --listen-address="203.0.113.$number,2001:db8:2::$number,$vip4,$vip6" \
        --txt-record="whoami.pollux.test,$1" --txt-record="large.pollux.test,$large" --edns-packet-max=4096 \
        --local-ttl=0 {lock}>&-
}

# Anybody may log in, read /whoami and /100M, and write into /incoming; in active mode the data comes from port 20.
vsftpd_up() {
    local dir=$lab_dir/$1
    mkdir -p "$dir/empty" "$dir/ftp/incoming"
    chmod 777 "$dir/ftp/incoming"
    echo "$1" >"$dir/ftp/whoami"
    ln -f "$lab_dir/www/100M" "$dir/ftp/100M"
    cat >"$dir/vsftpd.conf" <<CONF
background=NO
listen=NO
listen_ipv6=YES
anonymous_enable=YES
no_anon_password=YES
anon_root=$dir/ftp
write_enable=YES
anon_upload_enable=YES
anon_umask=022
connect_from_port_20=YES
secure_chroot_dir=$dir/empty
xferlog_enable=NO
seccomp_sandbox=NO
CONF
    start_process "$1/vsftpd" vsftpd "$dir/vsftpd.conf"
}

listens_on_port_21() {
    [[ -n $(ip netns exec "pollux-$1" ss -Hltn 'sport = :21') ]]
}

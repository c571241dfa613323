"""Scenarios of kinds that no other file of tests/golden has."""
from lab import *

C, C6 = "198.51.100.7", "2001:db8:c::7"


def many(lab, text):
    for l in text.strip().splitlines():
        lab.cmd(l.strip())


def nat(lab, svc, n=3, opts="-s rr", v=4, port=8080, more=""):
    lab.cmd(f"ipvsadm -A {svc} {opts}")
    for i in range(1, n + 1):
        r = rip(i) if v == 4 else f"[{rip(i, 6)}]"
        lab.cmd(f"ipvsadm -a {svc} -r {r}:{port} -m {more}")


def establish(lab, port, c=C, vip=VIP4, vport=80, rport=8080, v=4):
    n = lab.server(tcp(c, port, vip, vport, "S"))
    if isinstance(n, int):
        lab.send(n, tcp(rip(n, v), rport, c, port, "SA", seq=5000, ack=1001))
        lab.send("cl", tcp(c, port, vip, vport, "A", seq=1001, ack=5001))
    return n


def rates(lab):
    lab.begin("tools/rates", "counters and rates as the estimator has them, tick by tick")
    nat(lab, f"-t {VIP4}:80")
    nat(lab, f"-u {VIP4}:53", 2, port=53)
    for r in range(5):
        for i in range(4 * r + 1):
            establish(lab, 40000 + 100 * r + i)
            lab.send("cl", udp(C, 5000 + i, VIP4, 53, b"q" * 40))
        lab.sleep((2, 4, 1, 7, 3)[r])
        many(lab, f"""ipvsadm -Ln --rate
            ipvsadm -L -n -t {VIP4}:80 --rate
            ipvsadm -Ln --stats
            cat /proc/net/ip_vs_stats""")
    lab.cmd(f"ipvsadm -Z -t {VIP4}:80")
    lab.cmd("ipvsadm -Ln --stats --exact")
    lab.cmd("ipvsadm -Ln --rate")
    lab.sleep(6)
    lab.cmd(f"ipvsadm -d -t {VIP4}:80 -r {rip(1)}:8080")
    lab.cmd("ipvsadm -Ln --stats")
    lab.cmd(f"ipvsadm -a -t {VIP4}:80 -r {rip(1)}:8080 -m")
    lab.cmd("ipvsadm -Z")
    for i in range(9):
        establish(lab, 41000 + i)
    lab.sleep(4)
    lab.cmd("ipvsadm -Ln --stats")
    lab.cmd("cat /proc/net/ip_vs_stats_percpu")
    lab.sleep(40)
    lab.cmd("ipvsadm -Ln --rate")
    lab.end()


def pipes(lab):
    lab.begin("tools/pipes", "what administrators do with listings in a shell")
    V = f"{VIP4}:80"
    many(lab, f"""ipvsadm -A -t {V} -s wlc
        for n in 1 2 3; do ipvsadm -a -t {V} -r 10.1.0.1$n:8080 -m -w $n; done
        ipvsadm -A -t [{VIP6}]:443 -s sh -b sh-port
        ipvsadm -a -t [{VIP6}]:443 -r [{rip(1, 6)}]:443 -i --tun-type gue --tun-port 6080 --tun-remcsum
        ipvsadm -a -t [{VIP6}]:443 -r [{rip(2, 6)}]:443 -i --tun-type gre --tun-csum
        ipvsadm -A -f 3 -s mh -p 90 -M 255.255.0.0
        ipvsadm -a -f 3 -r {rip(4)} -g -w 7 -x 9 -y 4
        ipvsadm -A -u {VIP4}:5060 -s rr -p 60 --pe sip""")
    for i in range(7):
        establish(lab, 40000 + i)
    many(lab, f"""ipvsadm -L
        ipvsadm -L | head -3
        ipvsadm -Ln | grep -c Masq
        ipvsadm -Ln | grep 10.1.0.12 | awk '{{print $2, $3, $4}}'
        ipvsadm -Ln | wc -l
        ipvsadm -Lnc | grep -c ESTABLISHED
        ipvsadm -Lnc | tail -n +3 | awk '{{print $3}}' | sort | uniq -c
        ipvsadm -L -n -c --sort
        ipvsadm -Lc | grep TCP | head -1 | cut -c1-3
        ipvsadm -S
        ipvsadm -Sn | sort
        ipvsadm-save -n | grep -c -- -a
        ipvsadm -Ln --tun-info
        ipvsadm -Ln --tun-info | grep gue
        ipvsadm -Ln --thresholds
        ipvsadm -Ln --persistent-conn
        ipvsadm -L -n -f 3
        ipvsadm -L -n -f 3 --thresholds
        ipvsadm -L -n -t [{VIP6}]:443
        cat /proc/net/ip_vs
        cat /proc/net/ip_vs_conn
        cat /proc/net/ip_vs_app
        cat /proc/net/ip_vs_conn | wc -l
        sysctl net.ipv4.vs.conn_reuse_mode
        sysctl -n net.ipv4.vs.sloppy_tcp
        cat /proc/sys/net/ipv4/vs/expire_nodest_conn
        sysctl -w net.ipv4.vs.expire_nodest_conn=1
        cat /proc/sys/net/ipv4/vs/expire_nodest_conn
        echo 1 > /proc/sys/net/ipv4/vs/sloppy_tcp
        sysctl -w net.ipv4.vs.nosuch=1
        sysctl -w net.ipv4.vs.conn_reuse_mode=x""")
    lab.send("cl", tcp(C, 45000, VIP4, 80, "A"), note="sloppy_tcp is on now")
    many(lab, f"""ipvsadm -Sn > /run/rules
        ipvsadm -C; ipvsadm -Ln
        ipvsadm-restore < /run/rules && ipvsadm -Ln
        cat /run/rules | grep -v 5060 > /run/rules2; ipvsadm -C; cat /run/rules2 | ipvsadm -R; echo rc $?
        ipvsadm -Sn
        printf '%s\\n' '-D -f 3' '-A -t {VIP4}:81 -s rr' '-a -t {VIP4}:81 -r {rip(1)}:81 -m' | ipvsadm -R
        ipvsadm -Ln
        ipvsadm -d -t {V} -r {rip(6)}:8080
        ipvsadm -A -t {V} -s rr
        ipvsadm -Lnt {V}
        ipvsadm -lnu {VIP4}:9
        ipvsadm --help | head -4
        ipvsadm -a -t {V} -r {rip(5)}:70000 -m
        test $(ipvsadm -Ln | wc -l) -gt 3 && echo many""")
    lab.end()


def wires(lab):
    lab.begin("tools/wires", "addresses, routes, neighbours and MTUs that change")
    V2 = "192.0.2.101"
    lab.cmd(f"ip addr add {V2}/32 dev cl0")
    nat(lab, f"-t {V2}:80", 2)
    establish(lab, 40000, vip=V2)
    lab.send("cl", icmp(C, V2, 8, 0, 0x12340001, b"ping"))
    lab.send("cl", tcp(C, 40001, V2, 81, "S"), note="no service there")
    lab.cmd("ip neigh replace 10.1.0.20 lladdr 02:00:00:00:01:16 nud permanent dev rs0")
    lab.cmd(f"ipvsadm -a -t {V2}:80 -r 10.1.0.20:8080 -m -w 9")
    for i in range(3):
        lab.server(tcp(C, 41000 + i, V2, 80, "S"))
    lab.cmd("ip route add 172.16.0.0/16 via 10.1.0.13")
    lab.cmd(f"ipvsadm -A -u {V2}:53 -s rr")
    lab.cmd(f"ipvsadm -a -u {V2}:53 -r 172.16.3.4:53 -m")
    lab.send("cl", udp(C, 5000, V2, 53, b"far"))
    lab.send(3, udp("172.16.3.4", 53, C, 5000, b"answer"))
    lab.cmd("ip link set cl0 mtu 1400")
    lab.send(1, tcp(rip(1), 8080, C, 40000, "A", data=b"d" * 1460))
    lab.send(2, tcp(rip(2), 8080, C, 40000, "A", data=b"d" * 1460))
    lab.send(3, udp("172.16.3.4", 53, C, 5000, b"a" * 1460, df=False, ident=5))
    lab.cmd("ip link set cl0 mtu 1500")
    lab.cmd("ip route del default")
    lab.send(2, tcp(rip(2), 8080, C, 40000, "A", data=b"back"), note="no way to the client")
    lab.send(1, tcp(rip(1), 8080, C, 40000, "A", data=b"back"), note="no way to the client")
    lab.cmd(f"ip route add default via {GW4}")
    lab.send(1, tcp(rip(1), 8080, C, 40000, "A", data=b"back"))
    lab.send(2, tcp(rip(2), 8080, C, 40000, "A", data=b"back"))
    lab.cmd(f"ip addr del {V2}/32 dev cl0")
    lab.send("cl", icmp(C, V2, 8, 0, 0x12340001, b"ping"), note="not its address any more")
    lab.cmd("ipvsadm -Ln")
    lab.end()


def ftp(lab):
    lab.begin("tools/ftp", "FTP, active and passive, both families")
    nat(lab, f"-t {VIP4}:21", 1, port=21)
    c = 40000
    lab.send("cl", tcp(C, c, VIP4, 21, "S", seq=1000))
    lab.send(1, tcp(rip(1), 21, C, c, "SA", seq=5000, ack=1001))
    lab.send("cl", tcp(C, c, VIP4, 21, "A", seq=1001, ack=5001))
    lab.send("cl", tcp(C, c, VIP4, 21, "PA", seq=1001, ack=5001, data=b"PORT 198,51,100,7,156,65\r\n"))
    lab.send(1, tcp(rip(1), 20, C, 40001, "S", seq=7000))
    lab.send("cl", tcp(C, 40001, VIP4, 20, "SA", seq=9000, ack=7001))
    lab.send(1, tcp(rip(1), 20, C, 40001, "A", seq=7001, ack=9001))
    lab.cmd("ipvsadm -Lnc")
    lab.send("cl", tcp(C, c, VIP4, 21, "PA", seq=1027, ack=5001, data=b"PASV\r\n"))
    lab.send(1, tcp(rip(1), 21, C, c, "PA", seq=5001, ack=1033, data=b"227 Entering Passive Mode (10,1,0,11,200,10).\r\n"))
    lab.send("cl", tcp(C, 40002, VIP4, 200 * 256 + 10, "S", seq=100))
    lab.send(1, tcp(rip(1), 200 * 256 + 10, C, 40002, "SA", seq=200, ack=101))
    lab.send("cl", tcp(C, 40002, VIP4, 200 * 256 + 10, "A", seq=101, ack=201))
    lab.send("cl", tcp(C, c, VIP4, 21, "PA", seq=1033, ack=5048, data=b"NOOP\r\n"))
    lab.cmd("ipvsadm -Lnc")
    lab.cmd("ipvsadm -Ln")
    lab.end()


def marks(lab):
    lab.begin("tools/marks", "marks of several kinds of rules, both families, with persistence across protocols")
    many(lab, f"""nft 'add table ip t; add chain ip t p {{ type filter hook prerouting priority -150; }}'
        nft 'add rule ip t p ip daddr {{ 203.0.113.1, 203.0.113.2 }} meta l4proto {{ tcp, udp }} meta mark set 0x10'
        nft add rule ip t p ip saddr 198.18.0.0/15 tcp dport 8000-8100 meta mark set 17
        nft add rule ip t p iifname "cl0" ip protocol udp udp dport 69 meta mark set 18
        nft 'add table ip6 t; add chain ip6 t p {{ type filter hook prerouting priority -150; }}; add rule ip6 t p ip6 daddr {NET6} tcp dport {{ 80, 443 }} meta mark set 16'
        ipvsadm -A -f 16 -s rr -p 120
        ipvsadm -A -f 16 -6 -s wrr -p 60 -M 64
        ipvsadm -A -f 17 -s lc
        ipvsadm -A -f 18 -s sh""")
    for i in range(1, 4):
        many(lab, f"""ipvsadm -a -f 16 -r {rip(i)} -m -w {i}
            ipvsadm -a -f 16 -6 -r [{rip(i, 6)}] -g -w {i}
            ipvsadm -a -f 17 -r {rip(i)} -g
            ipvsadm -a -f 18 -r {rip(i)} -i""")
    for i in range(8):
        lab.pick(tcp(f"198.51.100.{i % 3 + 1}", 40000 + i, f"203.0.113.{i % 3 + 1}", 80, "S"))
        lab.pick(udp(f"198.51.100.{i % 3 + 1}", 40000 + i, f"203.0.113.{i % 3 + 1}", 53))
        lab.pick(tcp(f"2001:db8:c{i % 2}::{i + 1:x}", 40000 + i, "2001:db8:f::5", (80, 443, 81)[i % 3], "S"))
        lab.pick(tcp(f"198.18.3.{i + 1}", 40000 + i, VIP4, 8000 + 20 * i, "S"))
        lab.pick(udp(f"198.18.3.{i + 1}", 40000 + i, VIP4, 69))
    many(lab, """ipvsadm -Lnc
        ipvsadm -Ln
        ipvsadm -Ln --persistent-conn
        ipvsadm -L -n -f 16 -6""")
    lab.end()


def errors6(lab):
    lab.begin("tools/errors6", "ICMPv6 both ways through NAT, and what is quoted")
    nat(lab, f"-t [{VIP6}]:80", 2, v=6)
    nat(lab, f"-u [{VIP6}]:80", 2, v=6)
    n = establish(lab, 40000, C6, VIP6, v=6)
    lab.send("cl", udp(C6, 5000, VIP6, 80, b"q"))
    for t, c, r in ((1, 0, 0), (1, 3, 0), (1, 4, 0), (2, 0, 1280), (3, 0, 0), (3, 1, 0), (4, 0, 6), (4, 1, 40), (100, 0, 0)):
        lab.send("cl", icmp("2001:db8:c::fe", VIP6, t, c, r, tcp(VIP6, 80, C6, 40000, "A", data=b"x" * 60)))
        lab.send("cl", icmp(C6, VIP6, t, c, r, udp(VIP6, 80, C6, 5000, b"x")))
        lab.send(n, icmp(rip(n, 6), C6, t, c, r, tcp(C6, 40000, rip(n, 6), 8080, "A")))
    lab.send(n, tcp(rip(n, 6), 8080, C6, 40000, "A", data=b"d" * 1440, ttl=1))
    lab.send("cl", tcp(C6, 40000, VIP6, 80, "A", data=b"d" * 1440, ttl=1))
    lab.cmd("ipvsadm -Lnc")
    lab.end()


def options(lab):
    lab.begin("tools/options", "IPv4 options through NAT, direct routing and a tunnel")
    nat(lab, f"-t {VIP4}:80", 1)
    for p, m in ((81, "-g"), (82, "-i")):
        lab.cmd(f"ipvsadm -A -t {VIP4}:{p} -s rr")
        lab.cmd(f"ipvsadm -a -t {VIP4}:{p} -r {rip(1)}:{p} {m}")
    kinds = {
        "record route with room": bytes.fromhex("070b0400000000000000000001")[:12] + b"",
        "record route full": bytes.fromhex("07070800000000") + b"\0",
        "timestamp only": bytes.fromhex("440c0500") + bytes(8),
        "timestamp full, overflow 3": bytes.fromhex("440c0d30") + bytes(8),
        "timestamp with addresses": bytes.fromhex("44140501") + bytes(16),
        "timestamp prespecified, ours": bytes.fromhex("440c0503") + addr(LB4) + bytes(4),
        "timestamp prespecified, another's": bytes.fromhex("440c0503") + addr("192.0.2.77") + bytes(4),
        "router alert": bytes.fromhex("94040000"),
        "unknown option 30": bytes.fromhex("1e0400aa"),
        "security": bytes.fromhex("820b000000000000000000") + b"\0",
        "end of list, rubbish after": bytes.fromhex("00ffffff"),
        "loose source route": bytes.fromhex("83070400000000") + b"\0",
        "bad length": bytes.fromhex("07ff0400"),
    }
    for what, o in kinds.items():
        for p in (80, 81, 82):
            lab.send("cl", ip(C, VIP4, 6, tcp(C, 40000, VIP4, p, "S")[20:], options=o), note=what)
        lab.send(1, ip(rip(1), C, 6, tcp(rip(1), 8080, C, 40000, "SA")[20:], options=o), note=what + ", answer")
    lab.end()


def mixed(lab):
    lab.begin("tools/mixed", "edits of services and servers while flows live, thresholds, one-packet, SCTP")
    nat(lab, f"--sctp-service {VIP4}:99", 3, port=99)
    init = struct.pack(">BBHIIHHI", 1, 0, 20, 77, 65535, 1, 1, 5)
    for i in range(5):
        lab.send("cl", sctp(C, 6000 + i, VIP4, 99, init))
    lab.cmd(f"ipvsadm -e --sctp-service {VIP4}:99 -r {rip(2)}:99 -m -w 0")
    lab.send("cl", sctp(C, 6001, VIP4, 99, struct.pack(">BBH", 10, 0, 4)))
    lab.cmd(f"ipvsadm -E --sctp-service {VIP4}:99 -s wrr -p 100")
    for i in range(5):
        lab.send("cl", sctp(f"198.51.100.{i % 2 + 7}", 6100 + i, VIP4, 99, init))
    lab.cmd("ipvsadm -Lnc")
    nat(lab, f"-t {VIP4}:80", 2, more="-x 2 -y 1")
    for i in range(6):
        establish(lab, 40000 + i)
    lab.cmd("ipvsadm -Ln --thresholds")
    lab.send("cl", tcp(C, 40000, VIP4, 80, "R", seq=1001))
    lab.sleep(20)
    for i in range(3):
        establish(lab, 40010 + i)
    lab.cmd(f"ipvsadm -e -t {VIP4}:80 -r {rip(1)}:8080 -m -x 0")
    for i in range(3):
        establish(lab, 40020 + i)
    lab.cmd("ipvsadm -Ln --thresholds")
    nat(lab, f"-u {VIP4}:53", 3, opts="-s rr -o", port=53)
    for i in range(4):
        n = lab.server(udp(C, 5000, VIP4, 53, b"q"))
        lab.send(n, udp(rip(n), 53, C, 5000, b"a"))
    lab.cmd(f"ipvsadm -E -u {VIP4}:53 -s rr")
    for i in range(4):
        n = lab.server(udp(C, 5000, VIP4, 53, b"q"))
        lab.send(n, udp(rip(n), 53, C, 5000, b"a"))
    lab.cmd("ipvsadm -Lnc")
    lab.cmd("ipvsadm -C")
    lab.send("cl", udp(C, 5000, VIP4, 53, b"q"))
    lab.send("cl", tcp(C, 40000, VIP4, 80, "A"))
    lab.cmd("ipvsadm -Lnc")
    lab.end()


PARTS = (rates, pipes, wires, ftp, marks, errors6, options, mixed)


def main(lab, *only):
    for f in PARTS:
        if not only or f.__name__ in only:
            f(lab)

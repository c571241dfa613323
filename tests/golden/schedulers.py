"""What schedulers do beyond sched.json: odd weights, many servers, thresholds and edits under load, chance.

    ipvs-lab/run.sh tests/golden/schedulers.py schedulers.json
"""
import random

from lab import *

V = f"-t {VIP4}:80"


def src(i):
    """Client address of flow i: 200 addresses over several networks."""
    k = i * 37 % 200
    return f"198.{51 + k % 3}.{k % 7}.{1 + k}"


def flow(i, flags, dst=VIP4):
    return tcp(src(i), 10000 + i, dst, 80, flags, seq=1000 + ("S" not in flags), ack=int("S" not in flags))


def service(lab, sched, weights, flags=None, vip=V, extra=lambda n: ""):
    lab.cmd(f"ipvsadm -A {vip} -s {sched}" + (f" -b {flags}" if flags else ""))
    port = 0 if vip.startswith("-f") else 80
    for n, w in enumerate(weights, 1):
        lab.cmd(f"ipvsadm -a {vip} -r {rip(n)}:{port} -g -w {w}{extra(n)}")


def tables(lab):
    """Every flow another source address and port: how the tables of mh and sh are dealt."""
    for sched, weights in (
        ("mh", (1, 1, 1, 1, 1, 1)), ("mh", (5, 7, 11, 13, 2, 3)), ("mh", (100, 200, 300)), ("mh", (64, 63, 1)),
        ("mh", (1000000, 2000001, 1)), ("mh", (2147483647, 1, 7)), ("mh", (0, 3, 0, 2)), ("mh", (9,)),
        ("sh", (1, 2, 3, 4, 5, 6)), ("sh", (300, 1, 1)), ("sh", (1, 1, 300)), ("sh", (0, 0, 5)), ("sh", (100, 100, 100)),
    ):
        lab.begin(f"tables/{sched} {' '.join(map(str, weights))}", f"{sched}-port, 100 SYN")
        service(lab, sched, weights, f"{sched}-port")
        for i in range(100):
            lab.pick(flow(i, "S"))
        lab.end()

    for sched in ("mh", "sh"):
        for flags in (f"{sched}-port", f"{sched}-fallback,{sched}-port", "flag-1,flag-2"):
            lab.begin(f"tables/{sched} {flags} changes", "weights 1 to 6; drained to one server and back; removed and added again")
            service(lab, sched, (1, 2, 3, 4, 5, 6), flags)
            i = 0
            for what in ([], *([f"-e {V} -r {rip(n)} -g -w 0"] for n in (6, 2, 4, 1, 5)), [f"-e {V} -r {rip(2)} -g -w 4"],
                         [f"-d {V} -r {rip(3)}"], [f"-a {V} -r {rip(3)} -g -w 0"], [f"-e {V} -r {rip(3)} -g -w 7"],
                         [f"-d {V} -r {rip(2)}", f"-a {V} -r {rip(2)} -g -w 2"]):
                for w in what:
                    lab.cmd(f"ipvsadm {w}")
                for _ in range(16):
                    lab.pick(flow(i, "S"))
                    i += 1
            lab.end()

    lab.begin("tables/mh families", "an IPv4 service with servers of both families, an IPv6 one too, by tunnel")
    for vip in (V, f"-t [{VIP6}]:80"):
        lab.cmd(f"ipvsadm -A {vip} -s mh -b mh-port")
        for n in (1, 2, 3):
            lab.cmd(f"ipvsadm -a {vip} -r {rip(n)} -i -w {n}")
        for n in (4, 5):
            lab.cmd(f"ipvsadm -a {vip} -r [{rip(n, 6)}]:80 -i -w {n}")
    for i in range(60):
        lab.pick(flow(i, "S"))
        lab.pick(tcp(f"2001:db8:c{i % 5:x}::{1 + i * 7:x}", 10000 + i, VIP6, 80, "S"))
    lab.end()


def load(lab):
    """Connections that come, establish and go, weights and thresholds that change: the same chance in every run."""
    for sched in "rr wrr lc wlc sed nq fo ovf lblc lblcr".split():
        rng = random.Random(sched)
        lab.begin(f"load/{sched}", "6 servers; SYN, ACK, FIN and RST of 150 flows; weights and thresholds change")
        weights = [rng.randint(1, 6) for _ in range(6)]
        limits = [rng.choice(["", " -x 6", " -x 8 -y 3"]) for _ in range(6)]
        service(lab, sched, weights, extra=lambda n: limits[n - 1])
        alive = []
        for i in range(150):
            lab.pick(flow(i, "S"))
            alive.append(i)
            for _ in range(rng.randint(0, 2)):
                lab.pick(flow(rng.choice(alive), rng.choice(["A", "A", "FA", "R"])))
            if i % 9 == 8:
                n = rng.randint(1, 6)
                limit = rng.choice(["", " -x 3", " -x 9 -y 4", " -x 5 -y 5", " -x 12"])
                lab.cmd(f"ipvsadm -e {V} -r {rip(n)} -g -w {rng.randint(0, 6)}{limit}")
            if i % 40 == 39:
                lab.sleep(rng.choice([13, 70]))
                lab.cmd("ipvsadm -Ln --thresholds")
                n = rng.randint(1, 6)
                lab.cmd(f"ipvsadm -d {V} -r {rip(n)}")
                lab.pick(flow(1000 + i, "S"))
                lab.cmd(f"ipvsadm -a {V} -r {rip(n)} -g -w {rng.randint(1, 6)}")
        lab.cmd("ipvsadm -Ln")
        lab.end()


def locality(lab):
    """Many destination addresses behind a firewall mark."""
    for sched in ("lblc", "lblcr", "dh"):
        rng = random.Random(sched)
        lab.begin(f"locality/{sched} fwmark", "6 servers of weight 2 to 9; 300 SYN to 30 addresses, most to few; changes")
        lab.cmd("nft 'add table ip t; add chain ip t p { type filter hook prerouting priority -150; };"
                f" add rule ip t p ip daddr {NET4} meta mark set 7'")
        service(lab, sched, [rng.randint(2, 9) for _ in range(6)], vip="-f 7")
        for i in range(300):
            lab.pick(flow(i, "S", f"203.0.113.{1 + int(30 * rng.random() ** 3)}"))
            if i % 30 == 29:
                n = rng.randint(1, 6)
                lab.cmd(f"ipvsadm -e -f 7 -r {rip(n)}:0 -g -w {rng.choice([0, 3, 5, 12])}")
        lab.cmd("ipvsadm -Ln")
        lab.end()


def chance(lab):
    """How often twos draws whom. A connection is gone before the next comes: SYN_RECV lasts 60 s, reset or not."""
    for name, busy in (("idle", 0), ("server 3 busy", 5)):
        lab.begin(f"draws/twos {name}", f"weights 1 2 3, {busy} live connections of server 3; 600 SYN, each gone before the next")
        lab.cmd(f"ipvsadm -A {V} -s wrr")
        lab.cmd(f"ipvsadm -a {V} -r {rip(3)} -g -w 3")
        for i in range(busy):
            lab.pick(flow(i, "S"))
            lab.pick(flow(i, "A"))
        for n in (2, 1):
            lab.cmd(f"ipvsadm -a {V} -r {rip(n)} -g -w {n}")
        lab.cmd(f"ipvsadm -E {V} -s twos")
        for i in range(600):
            if i % 10 == 0:  # the live ones stay so
                for j in range(busy):
                    lab.pick(flow(j, "A"))
            lab.pick(flow(100 + i, "S"))
            lab.sleep(70)
        lab.cmd("ipvsadm -Ln")
        lab.end()


def main(lab, *only):
    # The limit on ICMP messages is the whole kernel's and would make what comes out depend on what came before.
    for name in ("icmp_msgs_burst", "icmp_msgs_per_sec"):
        lab._write(f"/proc/sys/net/ipv4/{name}", "1000000")
    for part in (tables, load, locality, chance):
        if not only or part.__name__ in only:
            part(lab)

"""Corners that the other files leave out: edits that change nothing, the trash of servers, settings made late, mixtures of settings.

    ipvs-lab/run.sh tests/golden/corners.py corners.json [PART...]
"""
from lab import *

V = f"-t {VIP4}:80"
U = f"-u {VIP4}:53"
C4, C6 = "198.51.100.7", "2001:db8:c::7"


def syn(port, client=C4, to=80, flags="S"):
    return tcp(client, port, VIP4, to, flags, seq=1000 + ("S" not in flags), ack=int("S" not in flags))


def service(lab, what, options, weights, rest="-g", port=80):
    lab.cmd(f"ipvsadm -A {what} {options}")
    for n, w in enumerate(weights, 1):
        lab.cmd(f"ipvsadm -a {what} -r {rip(n)}:{port} {rest} -w {w}")


def edits(lab):
    """Edits in the middle of a turn."""
    kinds = {
        "service": lambda s: f"ipvsadm -E {V} -s {s}",
        "equal": lambda s: f"ipvsadm -e {V} -r {rip(2)}:80 -g -w 2",
        "threshold": lambda s: f"ipvsadm -e {V} -r {rip(2)}:80 -g -w 2 -x 1000",
        "method": lambda s: f"ipvsadm -e {V} -r {rip(2)}:80 -i -w 2",
        "weight": lambda s: f"ipvsadm -e {V} -r {rip(2)}:80 -g -w 4",
        "lighter": lambda s: f"ipvsadm -e {V} -r {rip(3)}:80 -g -w 1",
        "persistent": lambda s: f"ipvsadm -E {V} -s {s} -p 60",
    }
    for sched in "rr wrr lc wlc sed nq fo ovf lblc lblcr dh sh mh".split():
        for kind in kinds:
            many = sched in ("rr", "wrr")
            if kind in ("threshold", "method", "persistent") and not many:
                continue
            lab.begin(f"edits/{sched} {kind}", "weights 1 2 3; an edit after 0 to 7 more connections, then 8 connections")
            service(lab, V, f"-s {sched}", (1, 2, 3))
            i = 0
            for before in range(8) if many else (0, 5):
                for _ in range(before):
                    lab.pick(syn(10000 + i, f"198.51.100.{1 + i % 250}"))
                    i += 1
                lab.cmd(kinds[kind](sched))
                for _ in range(8):
                    lab.pick(syn(10000 + i, f"198.51.100.{1 + i % 250}"))
                    i += 1
                if kind in ("weight", "lighter", "threshold", "method"):
                    lab.cmd(f"ipvsadm -e {V} -r {rip(2)}:80 -g -w 2")
                    lab.cmd(f"ipvsadm -e {V} -r {rip(3)}:80 -g -w 3")
                if kind == "persistent":
                    lab.cmd(f"ipvsadm -E {V} -s {sched}")
            lab.end()


def lists(lab, stats=True):
    if stats:
        lab.sleep(4)
        lab.cmd("ipvsadm -Ln --stats")
    lab.cmd("ipvsadm -Ln")


def trash(lab):
    """A server that comes back."""
    def udps(n, port=5000, server=True):
        for i in range(n):
            lab.send("cl", udp(C4, port + i, VIP4, 53))
            if server:
                lab.send(1, udp(rip(1), 53, C4, port + i))

    for name, flows, away in (("at once", 3, 0), ("after 50 s", 3, 50), ("after 200 s", 3, 200), ("after 400 s", 3, 400),
                              ("after 900 s", 3, 900), ("never used", 0, 20)):
        lab.begin(f"trash/{name}", f"{flows} flows under NAT; the server goes and comes back: its totals")
        service(lab, U, "-s rr", (1,), "-m -x 10 -y 5", 53)
        udps(flows)
        lists(lab)
        lab.cmd(f"ipvsadm -d {U} -r {rip(1)}:53")
        lists(lab, False)
        if away:
            lab.sleep(away)
        lab.cmd("ipvsadm -Lnc")
        lab.cmd(f"ipvsadm -a {U} -r {rip(1)}:53 -m -w 3")
        lab.cmd("ipvsadm -Ln --thresholds")
        lists(lab)
        udps(2, 6000)
        lists(lab)
        lab.end()

    lab.begin("trash/twice", "the server goes and comes back, twice; zeroed in between")
    service(lab, U, "-s rr", (1, 0), "-m", 53)
    udps(2)
    lists(lab)
    for port in (6000, 7000):
        lab.cmd(f"ipvsadm -d {U} -r {rip(1)}:53")
        lab.sleep(10)
        lab.cmd(f"ipvsadm -a {U} -r {rip(1)}:53 -m")
        lists(lab)
        udps(2, port)
        lists(lab)
        lab.cmd(f"ipvsadm -Z {U}")
        lists(lab)
    lab.end()

    for name, options, how in (("service", "-s rr", ""), ("persistent", "-s rr -p 300", " --persistent-conn")):
        lab.begin(f"trash/{name}", "the service goes and comes back with its server")
        service(lab, U, options, (1,), "-m", 53)
        udps(3)
        lists(lab)
        lab.cmd(f"ipvsadm -D {U}")
        lab.sleep(10)
        lab.cmd("ipvsadm -Lnc")
        service(lab, U, options, (1,), "-m", 53)
        lists(lab)
        lab.cmd(f"ipvsadm -Ln{how}")
        udps(1)
        udps(1, 6000)
        lists(lab)
        lab.cmd("ipvsadm -Lnc")
        lab.end()

    lab.begin("trash/zeroed service", "a server's totals while it is away and its service is zeroed")
    service(lab, U, "-s rr", (1, 0), "-m", 53)
    udps(3)
    lists(lab)
    lab.cmd(f"ipvsadm -d {U} -r {rip(1)}:53")
    lists(lab)
    lab.cmd(f"ipvsadm -Z {U}")
    lists(lab)
    lab.send(1, udp(rip(1), 53, C4, 5000), note="the server speaks while it is away")
    lab.send("cl", udp(C4, 5000, VIP4, 53), note="the client, too")
    lists(lab)
    lab.cmd(f"ipvsadm -a {U} -r {rip(1)}:53 -m")
    lists(lab)
    udps(1)
    lists(lab)
    lab.end()

    lab.begin("trash/overloaded", "a server that is full goes and comes back, with other thresholds and the same")
    service(lab, V, "-s rr", (1,), "-m -x 3 -y 2")
    for i in range(4):
        lab.pick(syn(10000 + i))
    for limits in ("-x 3 -y 2", "-x 5 -y 2", "-x 3 -y 2", "", "-x 3 -y 2"):
        lab.cmd(f"ipvsadm -d {V} -r {rip(1)}")
        lab.cmd(f"ipvsadm -a {V} -r {rip(1)} -m {limits}")
        lab.cmd("ipvsadm -Ln --thresholds")
        lab.pick(syn(11000))
        lab.cmd("ipvsadm -Ln --thresholds")
    lab.end()

    lab.begin("trash/drained", "a server of mh is drained, goes, and comes back drained")
    service(lab, V, "-s mh -b mh-port", (1, 1))
    for i in range(8):
        lab.pick(syn(10000 + i))
    lab.cmd(f"ipvsadm -e {V} -r {rip(1)} -g -w 0")
    for i in range(8):
        lab.pick(syn(11000 + i))
    lab.cmd(f"ipvsadm -d {V} -r {rip(1)}")
    lab.cmd(f"ipvsadm -a {V} -r {rip(1)} -g -w 0")
    for i in range(8):
        lab.pick(syn(12000 + i))
    lab.end()


def nodest(lab):
    """expire_nodest_conn, set after the server has gone."""
    on, off = ("sysctl -w net.ipv4.vs.expire_nodest_conn=%d" % x for x in (1, 0))

    def open_all(options, method, servers):
        service(lab, V, options, (1,) * servers, method)
        service(lab, U, options, (1,) * servers, method, 53)
        for i in range(4):
            lab.send("cl", syn(10000 + i))
            lab.send("cl", syn(10000 + i, flags="A"))
            lab.send("cl", udp(C4, 10000 + i, VIP4, 53))

    def remove(n=1):
        lab.cmd(f"ipvsadm -d {V} -r {rip(n)}")
        lab.cmd(f"ipvsadm -d {U} -r {rip(n)}:53")

    for servers in (1, 2):
        for method in ("-m", "-g"):
            for options in ("-s rr", "-s rr -p 60"):
                lab.begin(f"nodest late/{servers} {method} {options}", "expire_nodest_conn=1 after a server has gone")
                open_all(options, method, servers)
                remove()
                lab.send("cl", syn(10000, flags="A"), note="still 0")
                lab.cmd(on)
                lab.sleep(5)
                lab.cmd("ipvsadm -Lnc")
                for i in range(2):
                    lab.send("cl", syn(10000 + i, flags="A"), note="a segment")
                    lab.send("cl", udp(C4, 10000 + i, VIP4, 53), note="a datagram")
                if method == "-m":
                    lab.send(1, tcp(rip(1), 80, C4, 10002, "A", seq=7, ack=8), note="the server's segment")
                    lab.send(1, udp(rip(1), 53, C4, 10002), note="the server's datagram")
                lab.sleep(1)
                lab.cmd("ipvsadm -Lnc")
                for i in range(2, 4):
                    lab.send("cl", syn(10000 + i), note="a SYN")
                lab.sleep(1)
                lab.cmd("ipvsadm -Lnc")
                lab.cmd("ipvsadm -Ln --persistent-conn")
                lab.end()

    lab.begin("nodest late/another goes", "expire_nodest_conn=1 after a server has gone; then another goes")
    open_all("-s rr", "-m", 3)
    remove(1)
    lab.sleep(3)
    lab.cmd(on)
    lab.sleep(3)
    lab.cmd("ipvsadm -Lnc")
    lab.cmd(f"ipvsadm -d {U} -r {rip(2)}:53")
    lab.sleep(3)
    lab.cmd("ipvsadm -Lnc")
    lab.end()

    lab.begin("nodest late/back", "expire_nodest_conn=1 after a server has gone; it comes back")
    open_all("-s rr", "-m", 2)
    remove(1)
    lab.cmd(on)
    lab.sleep(3)
    for what, port in ((V, 80), (U, 53)):
        lab.cmd(f"ipvsadm -a {what} -r {rip(1)}:{port} -m")
    lab.cmd("ipvsadm -Ln")
    for i in range(4):
        lab.send("cl", syn(10000 + i, flags="A"))
        lab.send("cl", udp(C4, 10000 + i, VIP4, 53))
    lab.cmd("ipvsadm -Lnc")
    lab.end()

    lab.begin("nodest late/service", "expire_nodest_conn=1 after the service has gone")
    open_all("-s rr", "-m", 2)
    lab.cmd(f"ipvsadm -D {V}")
    lab.cmd(on)
    lab.sleep(3)
    lab.cmd("ipvsadm -Lnc")
    lab.send("cl", syn(10000, flags="A"))
    lab.send("cl", syn(10001))
    lab.send("cl", udp(C4, 10000, VIP4, 53))
    lab.sleep(1)
    lab.cmd("ipvsadm -Lnc")
    lab.end()

    lab.begin("nodest late/drained", "expire_nodest_conn=1, and servers of weight 0: a SYN on a live connection's ports")
    open_all("-s rr", "-m", 2)
    lab.cmd(f"ipvsadm -e {V} -r {rip(1)} -m -w 0")
    lab.cmd(f"ipvsadm -e {U} -r {rip(1)}:53 -m -w 0")
    for i in range(2):
        lab.send("cl", syn(10000 + i))
    lab.cmd(on)
    for i in range(4):
        lab.send("cl", syn(10000 + i, flags="A"))
        lab.send("cl", syn(10000 + i))
        lab.send("cl", udp(C4, 10000 + i, VIP4, 53))
    lab.cmd("ipvsadm -Lnc")
    lab.end()


def pieces(packet, sizes, ident=77):
    """The packet in fragments of these sizes (bytes of payload) and a last one."""
    v6 = packet[0] >> 4 == 6
    body = packet[40:] if v6 else packet[20:]
    out, at = [], 0
    for size in [*sizes, None]:
        part = body[at:] if size is None else body[at:at + size]
        more = size is not None
        if v6:
            head = packet[:4] + struct.pack(">H", len(part) + 8) + b"\x2c" + packet[7:40]
            out.append(head + struct.pack(">BBHI", packet[6], 0, at | more, ident) + part)
        else:
            h = bytearray(packet[:20])
            h[2:4] = struct.pack(">H", 20 + len(part))
            h[4:8] = struct.pack(">HH", ident, (0x2000 if more else 0) | at // 8)
            h[10:12] = b"\0\0"
            h[10:12] = struct.pack(">H", csum(bytes(h)))
            out.append(bytes(h) + part)
        at += len(part)
    return out


def tiny(lab):
    """First fragments without the whole transport header."""
    for v in (4, 6):
        vip, cl = (VIP4, C4) if v == 4 else (VIP6, C6)
        at = lambda a, p: f"[{a}]:{p}" if v == 6 else f"{a}:{p}"
        for method in ("-m", "-g", "-i"):
            lab.begin(f"tiny/{v} {method}", "datagrams whose first fragment has less than the transport header")
            for letter in ("-t", "-u", "--sctp-service"):
                lab.cmd(f"ipvsadm -A {letter} {at(vip, 80)} -s rr")
                lab.cmd(f"ipvsadm -a {letter} {at(vip, 80)} -r {at(rip(1, v), 80)} {method}")
            init = struct.pack(">BBHIIHHI", 1, 0, 20, 1, 65535, 1, 1, 1)
            whole = {
                "tcp": tcp(cl, 4000, vip, 80, "S", data=b"d" * 40, df=False) if v == 4 else tcp(cl, 4000, vip, 80, "S", data=b"d" * 40),
                "udp": udp(cl, 4000, vip, 80, b"d" * 40, df=False) if v == 4 else udp(cl, 4000, vip, 80, b"d" * 40),
                "sctp": sctp(cl, 4000, vip, 80, init + b"\0" * 20, df=False) if v == 4 else sctp(cl, 4000, vip, 80, init + b"\0" * 20),
            }
            ident = 100
            for name, packet in whole.items():
                for sizes in ((8,), (16,), (24,), (8, 8), (8, 8, 8)):
                    for order in (1, -1):
                        ident += 1
                        for n, piece in enumerate(pieces(packet, sizes, ident)[::order]):
                            lab.send("cl", piece, note=f"{name} {sizes} {order}: {n}")
            lab.cmd("ipvsadm -Lnc")
            lab.cmd("ipvsadm -Ln")
            lab.end()


def expiration(lab):
    """What lblc and lblcr forget, and when."""
    for sched in ("lblc", "lblcr"):
        for seconds in (60, 86400, 600):
            lab.begin(f"expiration/{sched} {seconds}", "an address is forgotten when it was not asked for so long, at the half-hourly look",
                      sysctls=[f"net.ipv4.vs.{sched}_expiration={seconds}"])
            lab.cmd(f"sysctl net.ipv4.vs.{sched}_expiration")
            lab.cmd(f"ipvsadm -A {U} -s {sched}")
            for n in (1, 2):
                lab.cmd(f"ipvsadm -a {U} -r {rip(n)}:53 -g")
            lab.cmd("ipvsadm --set 0 0 30")
            port = 5000
            def ask(note=None):
                nonlocal port
                port += 1
                return lab.pick(udp(C4, port, VIP4, 53), note)
            # Of equals the one added last is chosen, when the address is not remembered.
            known = ask("chosen anew")
            for gap in (100, 600, 1000, 2200, 100, 2200, 1000, 1000, 2200):
                lab.sleep(gap)
                other = 3 - known
                lab.cmd(f"ipvsadm -d {U} -r {rip(other)}:53")
                lab.cmd(f"ipvsadm -a {U} -r {rip(other)}:53 -g")
                known = ask(f"after {gap} s")
            lab.end()


def mixture(lab, name, settings, options, method):
    """Connections in every closing state, then SYNs on their ports; the same with a server drained, gone, and back."""
    lab.begin(f"mixture/{name} {method} {options}", "SYN and ACK on the ports of old connections; a server drained, gone, back",
              sysctls=[f"net.ipv4.vs.{k}={v}" for k, v in settings.items()])
    service(lab, V, options, (1, 1), method)
    nat = method == "-m"

    def answer(n, port, flags):
        if nat:
            lab.send(n, tcp(rip(n), 80, C4, port, flags, seq=5000, ack=1001))

    def open_flow(port, *steps):
        n = lab.server(syn(port)) or 1
        for side, flags in steps:
            if side == "c":
                lab.send("cl", syn(port, flags=flags))
            else:
                answer(n, port, flags)

    def begin(base):
        est = (("s", "SA"), ("c", "A"))
        open_flow(base, *est, ("c", "FA"), ("s", "FA"), ("c", "A"))
        open_flow(base + 1, *est, ("c", "RA"))
        open_flow(base + 2, *est)
        open_flow(base + 3)
        open_flow(base + 4, *est, ("s", "FA"))
        open_flow(base + 5, *est, ("c", "FA"))

    def again(base, flags):
        for i in range(6):
            lab.send("cl", syn(base + i, flags=flags))

    begin(10000)
    lab.cmd("ipvsadm -Lnc")
    again(10000, "S")
    lab.cmd("ipvsadm -Lnc")
    lab.send("cl", syn(12000, flags="A"), note="unknown")
    begin(11000)
    lab.cmd(f"ipvsadm -e {V} -r {rip(1)} {method} -w 0")
    again(11000, "A")
    again(11000, "S")
    again(10000, "S")
    lab.cmd("ipvsadm -Lnc")
    lab.cmd("ipvsadm -Ln --persistent-conn")
    lab.cmd(f"ipvsadm -d {V} -r {rip(1)}")
    lab.sleep(2)
    again(11000, "A")
    again(10000, "S")
    lab.sleep(15)
    lab.cmd("ipvsadm -Lnc")
    lab.cmd(f"ipvsadm -a {V} -r {rip(1)} {method}")
    again(11000, "A")
    lab.cmd("ipvsadm -Lnc")
    lab.cmd("ipvsadm -Ln --persistent-conn")
    lab.end()


def mixtures(lab):
    """Settings together."""
    number = 0
    for quiescent in (0, 1):
        for nodest in (0, 1):
            for options in ("-s rr", "-s rr -p 60"):
                for method in ("-m", "-g"):
                    mode = number % 4
                    settings = {"conn_reuse_mode": mode, "expire_quiescent_template": quiescent, "expire_nodest_conn": nodest,
                                "sloppy_tcp": int(number % 3 == 0), "secure_tcp": 3 * int(number % 5 == 1)}
                    mixture(lab, f"{number} " + "".join(str(v) for v in settings.values()), settings, options, method)
                    number += 1

    for sloppy in (0, 1):
        for options in ("-s rr", "-s rr -p 60", "-s rr --ops"):
            lab.begin(f"mixture/sctp {sloppy} {options}", "first packets of SCTP by their chunk", sysctls=[f"net.ipv4.vs.sloppy_sctp={sloppy}"])
            what = f"--sctp-service {VIP4}:80"
            service(lab, what, options, (1, 1), "-m")
            for kind in (*range(15), 0xc1, 0xc0, 0x80):
                chunk = struct.pack(">BBHIIHHI", kind, 0, 20, 1, 65535, 1, 1, 1)
                n = lab.server(sctp(C4, 4000 + kind, VIP4, 80, chunk), note=f"chunk {kind}")
                if n:
                    lab.send(n, sctp(rip(n), 80, C4, 4000 + kind, struct.pack(">BBHIIHHI", 2, 0, 20, 1, 65535, 1, 1, 1)))
            lab.cmd("ipvsadm -Lnc")
            lab.cmd("ipvsadm -Ln --persistent-conn")
            lab.end()

    for quiescent in (0, 1):
        for method in ("-m", "-g"):
            lab.begin(f"mixture/ops {quiescent} {method}", "one-packet scheduling of persistent clients; a server drained, gone, back",
                      sysctls=[f"net.ipv4.vs.expire_quiescent_template={quiescent}", "net.ipv4.vs.expire_nodest_conn=1"])
            service(lab, U, "-s rr -p 60 --ops", (1, 1), method, 53)
            ask = lambda: [lab.send("cl", udp(f"198.51.100.{c}", 4000, VIP4, 53)) for c in (7, 8, 7)]
            ask()
            lab.cmd("ipvsadm -Lnc")
            lab.cmd(f"ipvsadm -e {U} -r {rip(1)}:53 {method} -w 0")
            ask()
            lab.cmd("ipvsadm -Lnc")
            lab.cmd(f"ipvsadm -d {U} -r {rip(1)}:53")
            lab.sleep(2)
            lab.cmd("ipvsadm -Lnc")
            ask()
            lab.cmd(f"ipvsadm -a {U} -r {rip(1)}:53 {method}")
            ask()
            lab.cmd("ipvsadm -Lnc")
            lab.cmd("ipvsadm -Ln --persistent-conn")
            lab.end()

    steps = (("c", "S"), ("s", "SA"), ("c", "A"), ("c", "A"), ("s", "A"), ("c", "FA"), ("s", "FA"), ("c", "A"), ("c", "R"))
    for method in ("-m", "-g"):
        for mode, other in ((3, 0), (0, 3)):
            lab.begin(f"mixture/secure {mode} {method}", "secure_tcp switched in the life of persistent connections",
                      sysctls=[f"net.ipv4.vs.secure_tcp={mode}"])
            service(lab, V, "-s rr -p 60", (1,), method)
            for number, (side, flags) in enumerate(steps):
                # Each flow is one step behind the other.
                for flow in range(3):
                    if number - flow >= 0:
                        side, flags = steps[number - flow]
                        if side == "c":
                            lab.send("cl", syn(10000 + flow, flags=flags))
                        elif method == "-m":
                            lab.send(1, tcp(rip(1), 80, C4, 10000 + flow, flags, seq=5000, ack=1001))
                if number in (2, 4, 6):
                    lab.cmd("ipvsadm -Lnc")
                if number == 3:
                    lab.cmd(f"sysctl -w net.ipv4.vs.secure_tcp={other}")
            lab.cmd("ipvsadm -Lnc")
            lab.end()


def ftp(lab):
    """Passive data connections under NAT."""
    what = f"-t {VIP4}:21"
    reply = lambda port: f"227 Entering Passive Mode ({rip(1).replace('.', ',')},{port >> 8},{port & 255}).\r\n".encode()

    def lists():
        lab.cmd("ipvsadm -Ln --persistent-conn")
        lab.cmd("ipvsadm -Lnc")

    def control():
        lab.send("cl", tcp(C4, 4000, VIP4, 21, "S", seq=1000))
        lab.send(1, tcp(rip(1), 21, C4, 4000, "SA", seq=5000, ack=1001))
        lab.send("cl", tcp(C4, 4000, VIP4, 21, "A", seq=1001, ack=5001))

    for options in ("-s rr", "-s rr -p 60"):
        lab.begin(f"ftp/{options}", "a passive data connection: counts, states")
        service(lab, what, options, (1,), "-m", 21)
        control()
        lab.send("cl", tcp(C4, 4000, VIP4, 21, "PA", seq=1001, ack=5001, data=b"PASV\r\n"))
        lab.send(1, tcp(rip(1), 21, C4, 4000, "PA", seq=5001, ack=1007, data=reply(50000)), note="227")
        lists()
        lab.send("cl", tcp(C4, 4001, VIP4, 50000, "S", seq=2000))
        lists()
        lab.send(1, tcp(rip(1), 50000, C4, 4001, "SA", seq=6000, ack=2001))
        lab.send("cl", tcp(C4, 4001, VIP4, 50000, "A", seq=2001, ack=6001))
        lists()
        lab.send(1, tcp(rip(1), 21, C4, 4000, "PA", seq=5001, ack=1007, data=reply(50000)), note="the reply again, which the kernel lets pass")
        lab.sleep(200)
        lists()
        lab.end()
    lab.begin("ftp/waits", "a passive data connection that nobody opens")
    service(lab, what, "-s rr", (1,), "-m", 21)
    control()
    lab.send(1, tcp(rip(1), 21, C4, 4000, "PA", seq=5001, ack=1001, data=reply(50001)), note="227")
    for seconds in (0, 60, 90):
        if seconds:
            lab.sleep(seconds)
        lists()
    lab.end()


def ftp_odd(lab):
    """What the helper has the kernel do with packets beside those that it reads."""
    what = f"-t {VIP4}:21"
    for options in ("-s rr", "-s rr -p 60"):
        lab.begin(f"ftp/past {options}", "other ports than FTP's, of a service without a server, and with one of weight 0")
        lab.cmd(f"ipvsadm -A {what} {options}")
        for weight in (None, 0):
            if weight is not None:
                lab.cmd(f"ipvsadm -a {what} -r {rip(1)}:21 -m -w {weight}")
            for port in (21, 20, 5000, 1000):
                lab.send("cl", tcp(C4, 4000, VIP4, port, "S", seq=1000))
            lab.send("cl", tcp(C4, 4000, VIP4, 20, "A", seq=1000))
            lab.send("cl", udp(C4, 4000, VIP4, 5000))
        lab.cmd("ipvsadm -Lnc")
        lab.end()
    damaged = lambda packet: packet[:-1] + bytes([packet[-1] ^ 1])
    lab.begin("ftp/damaged", "segments with wrong checksums put off the end of a control connection, those of the server too")
    service(lab, what, "-s rr", (1,), "-m", 21)
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "S", seq=1000))
    lab.sleep(20)
    lab.cmd("ipvsadm -Lnc")
    lab.send(1, damaged(tcp(rip(1), 21, C4, 4000, "SA", seq=5000, ack=1001, options=b"\x02\x04\x05\xb4")))
    lab.cmd("ipvsadm -Lnc")
    lab.send(1, tcp(rip(1), 21, C4, 4000, "SA", seq=5000, ack=1001))
    lab.sleep(20)
    lab.send("cl", damaged(tcp(C4, 4000, VIP4, 21, "A", seq=1001, ack=5001, data=b"x")))
    lab.cmd("ipvsadm -Lnc")
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "A", seq=1001, ack=5001))
    lab.sleep(20)
    lab.send(1, damaged(tcp(rip(1), 21, C4, 4000, "FA", seq=5001, ack=1001, data=b"x")))
    lab.cmd("ipvsadm -Lnc")
    lab.end()
    lab.begin("ftp/begins anew", "flags that a server does not send in the middle, once its numbers are put off")
    service(lab, what, "-s rr", (1,), "-m", 21)
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "S", seq=1000))
    lab.send(1, tcp(rip(1), 21, C4, 4000, "SA", seq=5000, ack=1001))
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "A", seq=1001, ack=5001))
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "PA", seq=1001, ack=5001, data=b"PASV\r\n"))
    reply = f"227 Entering Passive Mode ({rip(1).replace('.', ',')},200,1).\r\n".encode()
    lab.send(1, tcp(rip(1), 21, C4, 4000, "PA", seq=5001, ack=1007, data=reply), note="227")
    end = 5001 + len(reply)
    for flags in ("A", "S", "SA", "PA", "S", "SA", "A"):
        for seq in (end, 5000):
            data = b"200 x\r\n" if flags == "PA" else b""
            lab.send(1, tcp(rip(1), 21, C4, 4000, flags, seq=seq, ack=0 if flags == "S" else 1007, data=data))
        lab.send("cl", tcp(C4, 4000, VIP4, 21, "A", seq=1007, ack=end + 2))
    for flags in ("S", "SA", "R"):
        lab.send("cl", tcp(C4, 4000, VIP4, 21, flags, seq=1007, ack=0 if flags == "S" else end + 2))
        lab.send(1, tcp(rip(1), 21, C4, 4000, "PA", seq=end, ack=1007, data=b"200 y\r\n"))
    lab.cmd("ipvsadm -Lnc")
    lab.end()
    lab.begin("ftp/early", "what a client says before its server has taken the connection")
    service(lab, what, "-s rr", (1,), "-m", 21)
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "S", seq=1000))
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "A", seq=1001, ack=5001))
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "PA", seq=1001, ack=5001, data=b"PASV\r\n"))
    lab.send(1, tcp(rip(1), 21, C4, 4000, "SA", seq=5000, ack=1001))
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "A", seq=1001, ack=5001))
    lab.cmd("ipvsadm -Lnc")
    lab.sleep(5)
    lab.cmd("ipvsadm -Ln --stats")
    lab.end()


def ftp_unseen(lab):
    """What nf_conntrack does not take for the server's, which the client acknowledges."""
    what = f"-t {VIP4}:21"
    lab.begin("ftp/unseen", "a server begins anew in the middle of a connection, and its client goes on from there")
    service(lab, what, "-s rr", (1,), "-m", 21)
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "S", seq=1000))
    lab.send(1, tcp(rip(1), 21, C4, 4000, "SA", seq=5000, ack=1001))
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "A", seq=1001, ack=5001))
    lab.send(1, tcp(rip(1), 21, C4, 4000, "S", seq=5001))
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "A", seq=1001, ack=5001), note="as if it had not")
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "PA", seq=1001, ack=5002, data=b"PASV\r\n"))
    lab.send(1, tcp(rip(1), 21, C4, 4000, "A", seq=5002, ack=1007))
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "PA", seq=1007, ack=5002, data=b"PASV\r\n"))
    lab.cmd("ipvsadm -Lnc")
    lab.end()
    lab.begin("ftp/congestion", "a client that asks for ECN speaks before its server has taken the connection")
    service(lab, what, "-s rr", (1,), "-m", 21)
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "SEC", seq=1000))
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "PA", seq=1001, ack=0, data=b"PASV\r\n"))
    lab.send(1, tcp(rip(1), 21, C4, 4000, "SAE", seq=5000, ack=1001))
    lab.send("cl", tcp(C4, 4000, VIP4, 21, "PA", seq=1001, ack=5001, data=b"PASV\r\n"))
    lab.cmd("ipvsadm -Lnc")
    lab.end()


def last_hop(lab):
    """Fragments whose last hop is the director: of clients it gathers them, of servers IPv4 asks first how far they go."""
    for v, c, vip in ((4, C4, VIP4), (6, C6, VIP6)):
        lab.begin(f"fragments/last hop {v}", "fragments without hops left, of a client and of a server")
        at = vip if v == 4 else f"[{vip}]"
        server = rip(1, v) if v == 4 else f"[{rip(1, v)}]"
        lab.cmd(f"ipvsadm -A -u {at}:53 -s rr")
        lab.cmd(f"ipvsadm -a -u {at}:53 -r {server}:53 -m")
        lab.send("cl", udp(c, 4000, vip, 53))
        for side, src, dst, ports in (("cl", c, vip, (4000, 53)), (1, rip(1, v), c, (53, 4000))):
            for ident, hops, order in ((1, 1, (0, 1, 2)), (2, 1, (2, 1, 0)), (3, 2, (0, 1, 2))):
                whole = udp(src, ports[0], dst, ports[1], bytes(range(60)))[20 if v == 4 else 40:]
                parts = [(n * 24, whole[n * 24:n * 24 + 24]) for n in range(3)]
                for n in order:
                    offset, body = parts[n]
                    if v == 4:
                        frag = offset // 8 | (0x2000 if n < 2 else 0)
                        lab.send(side, ip(src, dst, 17, body, ttl=hops, ident=ident, df=False, frag=frag))
                    else:
                        head = bytes([17, 0]) + struct.pack(">HI", offset | (n < 2), ident)
                        lab.send(side, ip(src, dst, 44, head + body, ttl=hops))
        lab.cmd("ipvsadm -Lnc")
        lab.sleep(5)
        lab.cmd("ipvsadm -Ln --stats")
        lab.end()


def ftp_fragments(lab):
    """Segments of a control connection in fragments: what the kernel looked into it cuts anew."""
    for v in (4, 6):
        client, vip, df = (C4, VIP4, {"df": False}) if v == 4 else (C6, VIP6, {})
        at = (lambda a: a) if v == 4 else (lambda a: f"[{a}]")
        for method in ("-m", "-g"):
            lab.begin(f"ftp fragments/{v} {method}", "segments of a control connection in fragments")
            lab.cmd(f"ipvsadm -A -t {at(vip)}:21 -s rr")
            lab.cmd(f"ipvsadm -a -t {at(vip)}:21 -r {at(rip(1, v))}:21 {method}")

            def say(wire, flags, seq, ack, data=b"", sizes=None):
                if wire == 1 and method != "-m":
                    return
                ends = (client, 4000, vip, 21) if wire == "cl" else (rip(1, v), 21, client, 4000)
                packet = tcp(*ends, flags, seq=seq, ack=ack, data=data, **df)
                for piece in pieces(packet, sizes, seq) if sizes else [packet]:
                    lab.send(wire, piece)

            say("cl", "S", 1000, 0)
            say(1, "SA", 5000, 1001)
            say("cl", "A", 1001, 5001)
            say(1, "PA", 5001, 1001, b"220 hello there, this is the server\r\n", (24, 16))
            say("cl", "PA", 1001, 5038, b"USER somebody with a long name indeed\r\n", (24, 16))
            say(1, "PA", 5038, 1040, b"331 password\r\n", (24,))
            say("cl", "PA", 1040, 5052, b"PASV\r\n")
            if v == 4:
                say(1, "PA", 5052, 1046, f"227 Entering Passive Mode ({rip(1).replace('.', ',')},200,1)\r\n".encode(), (24, 16))
                say("cl", "PA", 1046, 5090, f"PORT {client.replace('.', ',')},201,0\r\n".encode(), (24, 8))
            else:
                say(1, "PA", 5052, 1046, b"229 Entering Extended Passive Mode (|||51201|)\r\n", (24, 16))
                say("cl", "PA", 1046, 5100, f"EPRT |2|{client}|51456|\r\n".encode(), (24, 8))
            lab.cmd("ipvsadm -Lnc")
            lab.end()


def one_packet_cut(lab):
    """Datagrams too large for the way, of services that keep no connections: each has one turn."""
    for extra in ("", "-p 60"):
        for method in ("-m", "-g", "-i", "mixed"):
            lab.begin(f"one packet cut/{method} {extra}", "datagrams too large for the way to the server are scheduled and counted once")
            lab.cmd(f"ipvsadm -A -u {VIP4}:53 -s rr -o {extra}")
            for n in (1, 2, 3):
                lab.cmd(f"ipvsadm -a -u {VIP4}:53 -r {rip(n)}:53 {method if method != 'mixed' else ('-m', '-i', '-g')[n - 1]}")
            lab.cmd("ip link set rs0 mtu 1400")
            for n, (size, df) in enumerate([(10, True), (1390, False), (1390, False), (10, False), (1380, False), (1390, True), (1372, False), (1352, False)]):
                lab.send("cl", udp(f"198.51.100.{n + 1}", 5000, VIP4, 53, b"x" * size, df=df))
            lab.sleep(4)
            lab.cmd("ipvsadm -Ln --stats")
            lab.end()


def main(lab, *only):
    for name in ("icmp_msgs_burst", "icmp_msgs_per_sec"):
        lab._write(f"/proc/sys/net/ipv4/{name}", "1000000")
    for part in (edits, trash, nodest, tiny, expiration, mixtures, ftp, ftp_odd, ftp_unseen, last_hop, ftp_fragments, one_packet_cut):
        if not only or part.__name__ in only:
            part(lab)

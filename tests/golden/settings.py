# Recorded into settings.json: schedule_icmp, pmtu_disc, nat_icmp_send, sloppy_sctp and drop_entry of the kernel.
#   ipvs-lab/run.sh settings.py settings.json; with "drop": what became of drop_entry=3, at random
from lab import *

GUE = " --tun-type gue --tun-port 5555"
C4, C6, R4, R6 = "198.51.100.7", "2001:db8:c::7", "198.51.100.254", "2001:db8:c::fe"


def cli(v):
    return C4 if v == 4 else C6


def vip(v):
    return VIP4 if v == 4 else VIP6


def at(a, port):
    return f"[{a}]:{port}" if ":" in a else f"{a}:{port}"


def unreachable(src, v, quoted, typ=None, code=None, rest=0, **kw):
    t, c = (3, 1) if v == 4 else (1, 3)
    return icmp(src, vip(v), t if typ is None else typ, c if code is None else code, rest, quoted, **kw)


def answer(v, proto, cport, port=80):
    """What a server of this service would have sent to the client, as an error quotes it."""
    if proto == "t":
        return tcp(vip(v), port, cli(v), cport, "A")
    if proto == "u":
        return udp(vip(v), port, cli(v), cport)
    return sctp(vip(v), port, cli(v), cport, b"\x00\x03\x00\x04")


def schedule_icmp(lab, v, m, proto, options="", s=1):
    letter = {"t": "-t", "u": "-u", "s": "--sctp-service"}[proto]
    r = lambda n: at(rip(n, v), 8080 if m == "-m" else 80)
    name = f"icmp/{s}/{proto}{v} {m} {options}".strip()
    lab.begin(name, "ICMP errors about flows that are not known", sysctls=[f"net.ipv4.vs.schedule_icmp={s}"])
    lab.cmd(f"ipvsadm -A {letter} {at(vip(v), 80)} -s rr {options}")
    for n in (1, 2, 3):
        lab.cmd(f"ipvsadm -a {letter} {at(vip(v), 80)} -r {r(n)} {m}")
    router = R4 if v == 4 else R6
    q = answer(v, proto, 40000)
    lab.send("cl", unreachable(router, v, q), note="a router, whole packet quoted")
    quick = "-p" in options  # a command costs the recorded kernel half a second
    if not quick:
        lab.cmd("ipvsadm -Lnc | sort")
    lab.send("cl", unreachable(cli(v), v, q, 3 if v == 4 else 4, 3 if v == 4 else 1), note="the same flow again")
    lab.send("cl", unreachable(router, v, answer(v, proto, 40001)[: 28 if v == 4 else 48]), note="IP header and 8 bytes quoted")
    if v == 4:
        lab.send("cl", icmp(router, VIP4, 11, 0, 0, answer(v, proto, 40002)), note="time exceeded")
        lab.send("cl", icmp(router, VIP4, 3, 4, 1400, answer(v, proto, 40003)), note="fragmentation needed")
        lab.send("cl", icmp(router, VIP4, 12, 0, 0, answer(v, proto, 40004)), note="parameter problem")
    else:
        lab.send("cl", icmp(router, VIP6, 3, 0, 0, answer(v, proto, 40002)), note="time exceeded")
        lab.send("cl", icmp(router, VIP6, 2, 0, 1400, answer(v, proto, 40003)), note="packet too big")
    lab.send("cl", unreachable(router, v, answer(v, proto, 40005, 81)), note="of no service")
    bad = bytearray(unreachable(router, v, answer(v, proto, 40006)))
    bad[-1] ^= 1
    lab.send("cl", bytes(bad), note="a wrong checksum")
    lab.cmd("ipvsadm -Lnc | sort")
    if not quick:
        lab.cmd("ipvsadm -Ln --persistent-conn")
    if proto == "t":
        lab.send("cl", tcp(cli(v), 40000, vip(v), 80, "A"), note="a segment of the first flow")
        lab.send("cl", tcp(cli(v), 40001, vip(v), 80, "S"), note="a SYN of the second flow")
    elif proto == "u":
        lab.send("cl", udp(cli(v), 40000, vip(v), 80), note="a datagram of the first flow")
    if not quick:
        lab.cmd("ipvsadm -Ln")
    lab.sleep(6)
    lab.cmd("ipvsadm -Lnc | sort")
    lab.cmd("ipvsadm -Ln --stats")
    for n in (1, 2, 3):
        lab.cmd(f"ipvsadm -e {letter} {at(vip(v), 80)} -r {r(n)} {m} -w 0")
    lab.send("cl", unreachable(router, v, answer(v, proto, 40007)), note="no server takes it")
    lab.cmd("ipvsadm -Ln")
    lab.end()


def marked(lab):
    lab.begin("icmp/1/mark", "a service of a mark: errors have marks of their own", sysctls=["net.ipv4.vs.schedule_icmp=1"])
    lab.cmd("nft add table ip t")
    lab.cmd("nft 'add chain ip t c { type filter hook prerouting priority -150; }'")
    lab.cmd(f"nft 'add rule ip t c ip daddr {VIP4} tcp dport 80 meta mark set 1'")
    lab.cmd("ipvsadm -A -f 1 -s rr")
    lab.cmd(f"ipvsadm -a -f 1 -r {rip(1)} -m")
    lab.send("cl", unreachable(R4, 4, answer(4, "t", 40000)), note="the rule is for TCP only")
    lab.cmd(f"nft 'add rule ip t c ip daddr {VIP4} meta mark set 1'")
    lab.send("cl", unreachable(R4, 4, answer(4, "t", 40001)), note="now the error has the mark")
    lab.cmd("ipvsadm -Lnc | sort")
    lab.end()


def by_address(lab, v, scheduler):
    """Schedulers that go by an address: by the client's, or by whom the quoted packet itself went to, which is the client too."""
    lab.begin(f"icmp/by address {v} {scheduler}", "ICMP errors about flows that are not known, of schedulers that go by an address",
              sysctls=["net.ipv4.vs.schedule_icmp=1"])
    lab.cmd(f"ipvsadm -A -u {at(vip(v), 80)} -s {scheduler}")
    for n in (1, 2, 3):
        lab.cmd(f"ipvsadm -a -u {at(vip(v), 80)} -r {at(rip(n, v), 80)} -m")
    # Connections of some make the next one's choice of lblc and lblcr another one.
    for n in (1, 2, 3, 1, 4, 5, 2, 6, 7):
        client = f"198.51.{n}.{n * 7}" if v == 4 else f"2001:db8:c:{n}::{n * 7}"
        lab.send("cl", unreachable(R4 if v == 4 else R6, v, udp(vip(v), 80, client, 40000 + n)))
        if n in (2, 5):
            lab.pick(udp(client, 50000, vip(v), 80))
    lab.cmd("ipvsadm -Lnc | sort")
    lab.end()


def pmtu(lab, v, rv, m, kind, s):
    lab.begin(f"pmtu/{s}/{v}in{rv} {m} {kind}".strip(), "packets larger than the way to the server", sysctls=[f"net.ipv4.vs.pmtu_disc={s}"])
    lab.cmd(f"ipvsadm -A -u {at(vip(v), 53)} -s rr")
    lab.cmd(f"ipvsadm -a -u {at(vip(v), 53)} -r {at(rip(1, rv), 53)} {m}{kind}")
    for size in (100, 1472 if v == 4 else 1452):
        for df in (True, False) if v == 4 else (True,):
            lab.send("cl", udp(cli(v), 5000, vip(v), 53, b"x" * size, df=df, ident=7), note=f"{size} bytes, DF {df}")
    lab.cmd("ip link set rs0 mtu 1300")
    for df in (True, False) if v == 4 else (True,):
        lab.send("cl", udp(cli(v), 5000, vip(v), 53, b"y" * 1300, df=df, ident=8), note=f"1300 bytes on 1300, DF {df}")
    lab.end()


def drop_entry(lab, name, about, options, open_all, seconds, protocol="t"):
    lab.begin(f"drop/{name}", about, sysctls=["net.ipv4.vs.drop_entry=3"])
    lab.cmd(f"ipvsadm -A -{protocol} {VIP4}:80 -s rr {options}")
    lab.cmd(f"ipvsadm -a -{protocol} {VIP4}:80 -r {rip(1)}:80 -m")
    open_all()
    for s in seconds:
        lab.sleep(s)
        lab.cmd("ipvsadm -Ln --persistent-conn")
    lab.end()


ABORT, COOKIE_ECHO, COOKIE_ACK = b"\x06\x00\x00\x04", b"\x0a\x00\x00\x04", b"\x0b\x00\x00\x04"
CHUNKS = (("ABORT", ABORT), ("DATA", b"\x00\x03\x00\x04"), ("COOKIE ECHO, ABORT", COOKIE_ECHO + ABORT),
          ("COOKIE ACK, ABORT", COOKIE_ACK + ABORT), ("nothing", b""), ("half a chunk", b"\x06\x00"))


def unasked(lab, v):
    lab.begin(f"unasked/{v}", "what servers send of no connection", sysctls=["net.ipv4.vs.nat_icmp_send=1"])
    for letter in ("-t", "-u", "--sctp-service"):
        lab.cmd(f"ipvsadm -A {letter} {at(vip(v), 80)} -s rr")
        lab.cmd(f"ipvsadm -a {letter} {at(vip(v), 80)} -r {at(rip(1, v), 8080)} -m")
    for flags in ("SA", "R", "RA", "A"):
        lab.send(1, tcp(rip(1, v), 8080, cli(v), 40000, flags), note=flags)
    lab.send(1, udp(rip(1, v), 8080, cli(v), 40000))
    for note, chunks in CHUNKS:
        lab.send(1, sctp(rip(1, v), 8080, cli(v), 40000, chunks), note=note)
    lab.end()


def sloppy_sctp(lab):
    lab.begin("sloppy_sctp/1", "what opens an association", sysctls=["net.ipv4.vs.sloppy_sctp=1"])
    lab.cmd(f"ipvsadm -A --sctp-service {VIP4}:80 -s rr")
    lab.cmd(f"ipvsadm -a --sctp-service {VIP4}:80 -r {rip(1)}:8080 -m")
    for n, (note, chunks) in enumerate(CHUNKS):
        lab.send("cl", sctp(C4, 40000 + n, VIP4, 80, chunks), note=note)
    lab.cmd("ipvsadm -Lnc | sort")
    lab.end()


def drops(lab):
    def tcps(packets, n=64):
        def run():
            for i in range(n):
                c = f"198.51.{i}.7"
                lab.send("cl", tcp(c, 2000, VIP4, 80, "S"))
                if packets:
                    lab.send(1, tcp(rip(1), 80, c, 2000, "SA"))
                for _ in range(packets - 1):
                    lab.send("cl", tcp(c, 2000, VIP4, 80, "A"))
        return run

    def udps(n):
        def run():
            for i in range(64):
                for _ in range(n):
                    lab.send("cl", udp(f"198.51.{i}.7", 2000, VIP4, 80))
        return run
    drop_entry(lab, "half-open", "64 SYNs", "", tcps(0), [16] * 3)
    for n in (1, 2, 4, 8, 9):
        drop_entry(lab, f"established {n}", f"64 connections of {n} packets", "", tcps(n), [57, 43, 40, 40])
    drop_entry(lab, "udp 1", "64 datagrams", "", udps(1), [57, 43, 40], "u")
    drop_entry(lab, "template", "64 templates of half-open connections", "-p 360", tcps(0), [30, 60, 60])
    drop_entry(lab, "template ops 1", "64 templates of one-packet scheduling", "-p 360 --ops", udps(1), [57, 43, 40], "u")
    drop_entry(lab, "template ops 9", "64 templates of one-packet scheduling", "-p 360 --ops", udps(9), [57, 43, 40], "u")


def main(lab, which="all"):
    if which in ("all", "icmp"):
        for v in (4, 6):
            for m in ("-m", "-g", "-i"):
                schedule_icmp(lab, v, m, "t")
            schedule_icmp(lab, v, "-m", "u")
        schedule_icmp(lab, 4, "-m", "s")
        schedule_icmp(lab, 4, "-m", "t", "-p 60")
        schedule_icmp(lab, 4, "-m", "u", "--ops")
        schedule_icmp(lab, 4, "-g", "u", "--ops")
        schedule_icmp(lab, 4, "-m", "t", "", 0)
        marked(lab)
    if which in ("all", "icmp", "address"):
        for v in (4, 6):
            for scheduler in ("dh", "lblc", "lblcr", "sh", "mh"):
                by_address(lab, v, scheduler)
    if which in ("all", "pmtu"):
        for s in (0, 1):
            for v, rv in ((4, 4), (6, 4), (4, 6), (6, 6)):
                for kind in ("", GUE, " --tun-type gre"):
                    pmtu(lab, v, rv, "-i", kind, s)
            for v in (4, 6):
                pmtu(lab, v, v, "-m", "", s)
                pmtu(lab, v, v, "-g", "", s)
    if which in ("all", "unasked"):
        for v in (4, 6):
            unasked(lab, v)
        sloppy_sctp(lab)
    if which in ("drop",):
        drops(lab)

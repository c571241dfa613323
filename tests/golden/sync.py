"""Connection synchronisation: what a master multicasts, what a backup makes of messages good and bad, and the daemons.

    ipvs-lab/run.sh tests/golden/sync.py sync.json
"""
from lab import *

C, D = "198.51.100.7", "198.51.100.8"
C6 = "2001:db8:ffff::7"
GROUP, PORT = "224.0.0.81", 8848
MASTER = "ipvsadm --start-daemon master --mcast-interface cl0 --syncid 7"
BACKUP = "ipvsadm --start-daemon backup --mcast-interface cl0 --syncid 7"

MASQ, TUNNEL, DIRECT = 0, 2, 3
SYNC, NO_OUTPUT, INACTIVE, OUT_SEQ, IN_SEQ, NO_CPORT, TEMPLATE, ONE_PACKET = (
    0x20, 0x80, 0x100, 0x200, 0x400, 0x800, 0x1000, 0x2000)
TCP, UDP, SCTP = 6, 17, 132
NONE, ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, SYNACK = range(11)


# ---- messages of another director ----------------------------------------------------------

def entry(protocol=TCP, client=(C, 40000), service=(VIP4, 80), server=(rip(1), 8080), flags=0, state=ESTABLISHED,
          mark=0, timeout=900, options=b"", kind=None, size=None, version=0):
    kind = kind if kind is not None else (1 if ":" in client[0] else 0)
    ends = (client, service, server)
    body = struct.pack(">IH3HII", flags, state, *(p for _, p in ends), mark, timeout)
    body += b"".join(addr(a) for a, _ in ends) + options
    size = 4 + len(body) if size is None else size
    return struct.pack(">BBH", kind, protocol, version << 12 | size) + body


def message(*entries, syncid=7, count=None, size=None, version=1, reserved=0, spare=0, pad=True):
    body = b""
    for e in entries:
        body += b"\0" * (-len(body) % 4) + e
    size = 8 + len(body) if size is None else size
    return struct.pack(">BBHBBH", reserved, syncid, size, len(entries) if count is None else count, version, spare) + body


def entry_v0(protocol=TCP, client=(C, 40000), service=(VIP4, 80), server=(rip(1), 8080), flags=0, state=ESTABLISHED, options=b""):
    return struct.pack(">BB3H", 0, protocol, client[1], service[1], server[1]) + addr(client[0]) + addr(service[0]) + \
        addr(server[0]) + struct.pack(">HH", flags, state) + options


def message_v0(*entries, syncid=7):
    body = b"".join(entries)
    return struct.pack(">BBH", len(entries), syncid, 4 + len(body)) + body


def option(kind, data):
    return struct.pack(">BB", kind, len(data)) + data


def tell(lab, payload, group=GROUP, port=PORT, note=None):
    """A datagram of the other director comes by the client's side."""
    v6 = ":" in group
    packet = udp("2001:db8::2" if v6 else GW4, 5000, group, port, payload, ttl=1, df=False)
    to = b"\x33\x33" + addr(group)[-4:] if v6 else b"\x01\x00\x5e" + bytes([addr(group)[1] & 127]) + addr(group)[2:]
    frame = to + mac(MAC_CL) + (b"\x86\xdd" if v6 else b"\x08\x00") + packet
    lab.port["cl"].send(frame)
    time.sleep(0.02)  # the daemon is a thread
    step = {"in": {"port": "cl", "hex": frame.hex(), "txt": show(packet)}, "out": lab._drain()}
    if note:
        step["note"] = note
    lab.rec["steps"].append(step)


# ---- traffic -------------------------------------------------------------------------------

def address(a):
    return f"[{a}]" if ":" in a else a


def service(lab, letter="-t", vip=VIP4, port=80, how="-m", rport=8080, servers=(1, 2), extra=""):
    lab.cmd(f"ipvsadm -A {letter} {address(vip)}:{port} -s rr {extra}".strip())
    for n in servers:
        server = address(rip(n, 6 if ":" in vip else 4))
        lab.cmd(f"ipvsadm -a {letter} {address(vip)}:{port} -r {server}:{rport if how == '-m' else port} {how}")


def say(lab, flags, port=40000, client=C, vip=VIP4, vport=80, times=1, **kw):
    for _ in range(times):
        lab.send("cl", tcp(client, port, vip, vport, flags, **kw))


def answer(lab, n, flags, port=40000, client=C, rport=8080):
    lab.send(n, tcp(rip(n, 6 if ":" in client else 4), rport, client, port, flags, seq=5000, ack=1001))


def opened(lab, n, port=40000, client=C, vip=VIP4):
    say(lab, "S", port, client, vip)
    answer(lab, n, "SA", port, client)
    say(lab, "A", port, client, vip)


def listings(lab):
    lab.cmd("ipvsadm -Lnc")
    lab.cmd("ipvsadm -Ln")
    lab.cmd("ipvsadm -Ln --persistent-conn")


def quiet(lab):
    """The master has sent what it has."""
    lab.sleep(5)


# ---- what a master sends -------------------------------------------------------------------

def masters(lab):
    lab.begin("sync/states", "each state of TCP that is told, and when; an answer tells nothing")
    service(lab)
    lab.cmd(MASTER)
    opened(lab, 2)
    quiet(lab)
    say(lab, "PA")
    quiet(lab)
    say(lab, "PA", times=60)
    quiet(lab)
    answer(lab, 2, "FA")
    quiet(lab)
    say(lab, "A")
    quiet(lab)
    say(lab, "FA")
    answer(lab, 2, "A")
    quiet(lab)
    say(lab, "A")
    quiet(lab)
    opened(lab, 1, 40001)
    say(lab, "R", 40001)
    quiet(lab)
    opened(lab, 2, 40002)
    say(lab, "FA", 40002)
    say(lab, "A", 40002)
    answer(lab, 2, "FA", 40002)
    say(lab, "A", 40002)
    quiet(lab)
    say(lab, "S", 40003)
    say(lab, "S", 40003, times=5)
    quiet(lab)
    lab.cmd("ipvsadm -Lnc")
    lab.cmd("ipvsadm --stop-daemon master")
    opened(lab, 1, 40004)
    say(lab, "PA", 40004, times=3)
    quiet(lab)
    lab.end()

    for name, setting in (("never again", "3 0"), ("each", "0 1"), ("second of five", "2 5"), ("first of many", "1 1000")):
        lab.begin(f"sync/threshold {name}", "which packets of a connection tell of it",
                  sysctls=["net.ipv4.vs.sync_threshold=" + setting])
        service(lab)
        service(lab, "-u", port=53, how="-g", servers=(3,))
        lab.cmd(MASTER)
        opened(lab, 2)
        for i in range(12):
            say(lab, "PA")
            lab.send("cl", udp(C, 5000, VIP4, 53))
        quiet(lab)
        say(lab, "FA", times=4)
        quiet(lab)
        lab.end()

    for period, retries in ((10, 0), (10, 3), (100, 2), (2000, 1)):
        lab.begin(f"sync/refresh {period} {retries}", "a connection is told again when its end has moved so much",
                  sysctls=[f"net.ipv4.vs.sync_refresh_period={period}", f"net.ipv4.vs.sync_retries={retries}",
                           "net.ipv4.vs.sync_threshold=0 0"])
        service(lab)
        service(lab, "-u", port=53, how="-g", servers=(3,), extra="-p 60")
        lab.cmd(MASTER)
        opened(lab, 2)
        for i in range(30):
            say(lab, "PA", times=2)
            lab.send("cl", udp(C, 5000, VIP4, 53))
            lab.sleep(3.5)
        quiet(lab)
        lab.end()

    lab.begin("sync/refresh and threshold", "both must say so",
              sysctls=["net.ipv4.vs.sync_refresh_period=10", "net.ipv4.vs.sync_threshold=1 4"])
    service(lab)
    lab.cmd(MASTER)
    opened(lab, 2)
    for i in range(20):
        say(lab, "PA")
        lab.sleep(3.5)
    quiet(lab)
    lab.end()

    for mode in (0, 1):
        lab.begin(f"sync/persistence {mode}", "templates are told with every packet; in mode 1 their connections are not",
                  sysctls=[f"net.ipv4.vs.sync_persist_mode={mode}"])
        service(lab, extra="-p 100")
        service(lab, "-u", port=53, how="-g", servers=(3,), extra="-p 50 -M 255.255.255.0")
        service(lab, "-t", port=81, servers=(1,))
        lab.cmd(MASTER)
        opened(lab, 2)
        quiet(lab)
        say(lab, "PA", times=4)
        quiet(lab)
        lab.send("cl", udp(C, 5000, VIP4, 53))
        lab.send("cl", udp(D, 5000, VIP4, 53))
        quiet(lab)
        say(lab, "S", 40001)
        say(lab, "FA")
        quiet(lab)
        say(lab, "S", 41000, vport=81)
        lab.send(1, tcp(rip(1), 8080, C, 41000, "SA", seq=5000, ack=1001))
        say(lab, "A", 41000, vport=81, times=4)
        quiet(lab)
        listings(lab)
        lab.end()

    lab.begin("sync/marks", "connections and templates of firewall marks, and of a service of all ports")
    lab.cmd("nft 'add table ip t; add chain ip t p { type filter hook prerouting priority mangle; }; "
            "add rule ip t p ip daddr 203.0.113.0/24 meta mark set 7'")
    lab.cmd("ipvsadm -A -f 7 -s rr -p 100")
    lab.cmd(f"ipvsadm -a -f 7 -r {rip(1)}:0 -g")
    lab.cmd(f"ipvsadm -A -t {VIP4}:0 -s rr -p 60")
    lab.cmd(f"ipvsadm -a -t {VIP4}:0 -r {rip(2)}:0 -m")
    lab.cmd(MASTER)
    for vip in ("203.0.113.5", VIP4):
        say(lab, "S", vip=vip, vport=443)
        say(lab, "A", vip=vip, vport=443, times=4)
        quiet(lab)
    lab.cmd("ipvsadm -Lnc")
    lab.end()

    lab.begin("sync/methods", "flags of every method; a removed server's connections are told no more")
    service(lab, how="-g", servers=(1,))
    service(lab, port=81, how="-i", servers=(2,))
    service(lab, "-u", port=53, servers=(3,), rport=5353)
    lab.cmd(MASTER)
    for vport in (80, 81):
        say(lab, "S", vport=vport)
        say(lab, "A", vport=vport, times=3)
    for i in range(4):
        lab.send("cl", udp(C, 5000, VIP4, 53))
    lab.send(3, udp(rip(3), 5353, C, 5000))
    for i in range(50):
        lab.send("cl", udp(C, 5000, VIP4, 53))
    quiet(lab)
    say(lab, "FA", vport=80)
    say(lab, "R", vport=81)
    quiet(lab)
    lab.cmd(f"ipvsadm -d -t {VIP4}:80 -r {rip(1)}:80")
    say(lab, "A", vport=80, times=60)
    quiet(lab)
    lab.end()

    lab.begin("sync/one packet", "what leaves no connection behind is told by its template alone")
    service(lab, "-u", port=53, how="-g", servers=(1, 2), extra="--ops")
    service(lab, "-u", port=54, how="-g", servers=(1, 2), extra="-p 60 --ops")
    lab.cmd(MASTER)
    for i in range(6):
        lab.send("cl", udp(C, 5000, VIP4, 53))
        lab.send("cl", udp(C, 5000, VIP4, 54))
    quiet(lab)
    lab.end()

    lab.begin("sync/ipv6", "connections of IPv6, told to a group of IPv4")
    service(lab, vip=VIP6)
    service(lab, "-u", vip=VIP6, port=53, how="-g", servers=(3,), extra="-p 60")
    lab.cmd(MASTER)
    opened(lab, 2, client=C6, vip=VIP6)
    say(lab, "PA", client=C6, vip=VIP6, times=3)
    for i in range(3):
        lab.send("cl", udp(C6, 5000, VIP6, 53))
    quiet(lab)
    lab.end()

    lab.begin("sync/group", "a group of IPv6, another port, and hops")
    service(lab)
    lab.cmd("ipvsadm --start-daemon master --mcast-interface cl0 --syncid 255 --mcast-group ff02::51 --mcast-port 9000 --mcast-ttl 3")
    lab.cmd("ipvsadm -Ln --daemon")
    opened(lab, 2)
    say(lab, "PA", times=2)
    quiet(lab)
    lab.cmd("ipvsadm --stop-daemon master")
    lab.cmd("ipvsadm --start-daemon master --mcast-interface cl0 --syncid 0 --mcast-group 239.1.2.3 --mcast-port 9001 --mcast-ttl 4 --sync-maxlen 1")
    lab.cmd("ipvsadm -Ln --daemon")
    opened(lab, 1, 40001)
    say(lab, "PA", 40001, times=2)
    say(lab, "FA", 40001)
    quiet(lab)
    lab.end()

    lab.begin("sync/sctp", "states of SCTP that are told")
    lab.cmd(f"ipvsadm -A --sctp-service {VIP4}:7 -s rr")
    lab.cmd(f"ipvsadm -a --sctp-service {VIP4}:7 -r {rip(1)}:7 -m")
    lab.cmd(MASTER)

    def chunk(kind, length=20):
        return struct.pack(">BBH", kind, 0, length) + b"\0" * (length - 4)
    for who, kind in (("cl", 1), (1, 2), ("cl", 10), (1, 11), ("cl", 0), ("cl", 0), ("cl", 0), (1, 0), ("cl", 7), (1, 8), ("cl", 14)):
        if who == "cl":
            lab.send("cl", sctp(C, 40000, VIP4, 7, chunk(kind)))
        else:
            lab.send(1, sctp(rip(1), 7, C, 40000, chunk(kind)))
        if kind not in (1, 2):
            quiet(lab)
    lab.cmd("ipvsadm -Lnc")
    lab.end()

    lab.begin("sync/many", "full datagrams, and the rest", sysctls=["net.ipv4.vs.sync_threshold=0 1"])
    service(lab, "-u", port=53, how="-g", servers=(1, 2, 3))
    lab.cmd(MASTER + " --sync-maxlen 400")
    for i in range(25):
        lab.pick(udp(C, 5000 + i, VIP4, 53))
    quiet(lab)
    lab.end()

    lab.begin("sync/late start", "connections that were there before")
    service(lab)
    opened(lab, 2)
    lab.cmd(MASTER)
    quiet(lab)
    say(lab, "FA")
    quiet(lab)
    lab.end()

    lab.begin("sync/idle template", "a template that outlives its time is told with its new one")
    service(lab, extra="-p 20")
    lab.cmd(MASTER)
    opened(lab, 2)
    quiet(lab)
    lab.sleep(100)
    lab.cmd("ipvsadm --stop-daemon master")
    lab.end()


# ---- what a backup makes of messages -------------------------------------------------------

def backups(lab):
    lab.begin("sync/backup", "connections of every kind; then their packets")
    service(lab)
    service(lab, port=81, how="-g")
    service(lab, port=82, how="-i")
    service(lab, "-u", port=53, rport=5353, extra="-p 100")
    service(lab, vip=VIP6)
    lab.cmd(BACKUP)
    lab.cmd("ipvsadm -Ln --daemon")
    tell(lab, message(entry(), entry(client=(C, 40001), state=FIN_WAIT, flags=INACTIVE, timeout=120),
                      entry(client=(C, 40002), service=(VIP4, 81), server=(rip(2), 81), flags=DIRECT | NO_OUTPUT),
                      entry(client=(C, 40003), service=(VIP4, 82), server=(rip(2), 82), flags=TUNNEL | NO_OUTPUT)))
    tell(lab, message(entry(UDP, (C, 5000), (VIP4, 53), (rip(1), 5353), INACTIVE, 0, timeout=300),
                      entry(UDP, (C, 0), (VIP4, 53), (rip(1), 5353), INACTIVE | TEMPLATE, 0, timeout=100),
                      entry(UDP, (D, 0), (VIP4, 53), (rip(2), 5353), INACTIVE | TEMPLATE, 1, timeout=100),
                      entry(client=(C6, 40000), service=(VIP6, 80), server=(rip(2, 6), 8080))))
    listings(lab)
    for n, port, vport in ((1, 40000, 80), (None, 40001, 80), (None, 40002, 81), (None, 40003, 82)):
        say(lab, "PA", port, vport=vport)
    answer(lab, 1, "PA")
    say(lab, "PA", client=C6, vip=VIP6)
    answer(lab, 2, "PA", client=C6)
    lab.send("cl", udp(C, 5000, VIP4, 53))
    lab.send(1, udp(rip(1), 5353, C, 5000))
    for i in range(3):
        lab.send("cl", udp(C, 5001 + i, VIP4, 53))
        lab.send("cl", udp(D, 5001 + i, VIP4, 53))
    say(lab, "FA")
    answer(lab, 1, "FA")
    say(lab, "A")
    listings(lab)
    lab.sleep(150)
    listings(lab)
    lab.end()

    lab.begin("sync/backup method", "the method is that of the backup's own server")
    service(lab, how="-g", servers=(1,))
    service(lab, port=81, servers=(2,), rport=81)
    lab.cmd(BACKUP)
    tell(lab, message(entry(server=(rip(1), 80)), entry(service=(VIP4, 81), server=(rip(2), 81), flags=DIRECT | NO_OUTPUT)))
    say(lab, "A")
    say(lab, "A", vport=81)
    lab.send(2, tcp(rip(2), 81, C, 40000, "PA"))
    listings(lab)
    lab.end()

    lab.begin("sync/backup timeouts", "the end is the message's; without one, the state's")
    service(lab)
    lab.cmd(BACKUP)
    for i, timeout in enumerate((30, 0, 2000)):
        tell(lab, message(entry(client=(C, 40000 + i), timeout=timeout)))
    tell(lab, message(entry(client=(C, 40003), timeout=0, state=FIN_WAIT, flags=INACTIVE),
                      entry(client=(C, 0), timeout=0, flags=TEMPLATE | INACTIVE, state=0)))
    lab.cmd("ipvsadm -Lnc")
    lab.sleep(20)
    tell(lab, message(entry(timeout=30)), note="again")
    lab.sleep(20)
    lab.cmd("ipvsadm -Lnc")
    say(lab, "A", 40000)
    lab.cmd("ipvsadm -Lnc")
    lab.sleep(130)
    lab.cmd("ipvsadm -Lnc")
    lab.end()

    lab.begin("sync/backup changes", "a connection is told of again: another state, another server")
    service(lab)
    lab.cmd(BACKUP)
    tell(lab, message(entry()))
    lab.cmd("ipvsadm -Ln")
    tell(lab, message(entry(state=CLOSE_WAIT, flags=INACTIVE, timeout=60)))
    listings(lab)
    tell(lab, message(entry(state=ESTABLISHED)))
    listings(lab)
    tell(lab, message(entry(server=(rip(2), 8080), state=FIN_WAIT, flags=INACTIVE)), note="the old one's end: passed over")
    listings(lab)
    tell(lab, message(entry(server=(rip(2), 8080))), note="replaced")
    lab.sleep(1)
    listings(lab)
    say(lab, "A")
    tell(lab, message(entry(client=(C, 0), server=(rip(1), 8080), flags=TEMPLATE | INACTIVE, state=0)))
    tell(lab, message(entry(client=(C, 0), server=(rip(2), 8080), flags=TEMPLATE | INACTIVE, state=1)), note="a template keeps its server")
    listings(lab)
    lab.end()

    lab.begin("sync/backup unbound", "a server that is not there yet")
    service(lab, servers=(1,))
    lab.cmd(BACKUP)
    tell(lab, message(entry(server=(rip(2), 8080)), entry(client=(C, 40001), service=(VIP4, 99), server=(rip(1), 8080)),
                      entry(client=(C, 0), server=(rip(2), 8080), flags=TEMPLATE | INACTIVE, state=0)))
    listings(lab)
    lab.cmd(f"ipvsadm -a -t {VIP4}:80 -r {rip(2)}:8080 -m")
    listings(lab)
    tell(lab, message(entry(server=(rip(2), 8080)), entry(client=(C, 0), server=(rip(2), 8080), flags=TEMPLATE | INACTIVE, state=0)))
    listings(lab)
    say(lab, "PA")
    answer(lab, 2, "PA")
    listings(lab)
    lab.end()

    lab.begin("sync/backup file", "where the table is told of with who made each connection")
    service(lab)
    service(lab, "-u", port=53, rport=5353, extra="-p 100")
    service(lab, vip=VIP6)
    lab.cmd(BACKUP)
    lab.cmd("cat /proc/net/ip_vs_conn_sync")
    say(lab, "S", 40007)
    lab.send("cl", udp(C, 5000, VIP4, 53))
    tell(lab, message(entry(), entry(client=(C6, 40000), service=(VIP6, 80), server=(rip(2, 6), 8080)),
                      entry(UDP, (D, 0), (VIP4, 53), (rip(2), 5353), INACTIVE | TEMPLATE, 1, timeout=100)))
    lab.cmd("cat /proc/net/ip_vs_conn_sync")
    # The first packet here makes it no less another director's.
    say(lab, "PA", 40000)
    lab.send("cl", udp(D, 5001, VIP4, 53))
    lab.cmd("cat /proc/net/ip_vs_conn_sync")
    lab.cmd("cat /proc/net/ip_vs_conn")
    lab.end()

    lab.begin("sync/backup ids", "messages of other ids, and id 0, which takes all")
    service(lab)
    lab.cmd(BACKUP)
    tell(lab, message(entry(), syncid=8))
    tell(lab, message(entry(client=(C, 40001)), syncid=0))
    lab.cmd("ipvsadm -Lnc")
    lab.cmd("ipvsadm --stop-daemon backup")
    tell(lab, message(entry(client=(C, 40002))), note="nobody listens")
    lab.cmd("ipvsadm -Lnc")
    lab.cmd("ipvsadm --start-daemon backup --mcast-interface cl0 --syncid 0")
    tell(lab, message(entry(), syncid=8))
    tell(lab, message(entry(client=(C, 40001)), syncid=0))
    lab.cmd("ipvsadm -Lnc")
    lab.cmd("ipvsadm --stop-daemon backup")
    lab.cmd("ipvsadm --start-daemon backup --mcast-interface cl0 --syncid 7 --mcast-group ff02::51 --mcast-port 9000")
    lab.cmd("ipvsadm -Ln --daemon")
    tell(lab, message(entry(client=(C, 40003))), note="another group")
    tell(lab, message(entry(client=(C, 40004))), group="ff02::51", port=9000)
    lab.cmd("ipvsadm -Lnc")
    lab.end()

    lab.begin("sync/backup malformed", "what is refused, and what of the rest of its message")
    service(lab)
    lab.cmd(BACKUP)
    good = iter(range(41000, 42000))

    def ok():
        return entry(client=(C, next(good)))
    bad = [entry(kind=2), entry(kind=0x81), entry(version=1), entry(size=35), entry(size=0), entry(size=37), entry(size=200),
           entry(state=11), entry(UDP, state=1), entry(protocol=1), entry(protocol=50), entry(flags=ONE_PACKET),
           entry(client=(C, 0), flags=TEMPLATE | NO_CPORT, state=0), entry(client=(C, 0), flags=TEMPLATE, state=2),
           entry(options=option(4, b"x")), entry(options=option(0x44, b"x")), entry(options=option(0, b"x")),
           entry(options=option(1, b"x")), entry(options=option(1, bytes(24)) * 2), entry(options=b"\1"), entry(options=b"\1\0"),
           entry(options=b"\1\x19" + bytes(24)), entry(options=option(2, b"x")), entry(options=option(3, b"sip")),
           entry(options=option(2, b"x") + option(3, b"no-such")), entry(options=option(3, b"x" * 17)),
           entry(options=option(2, b"x") * 2), entry(options=option(0x41, bytes(24)) + option(0x7f, b"xyz"))]
    for i, b in enumerate(bad):
        tell(lab, message(ok(), b, ok()), note=f"number {i}")
    lab.cmd("ipvsadm -Lnc")
    for m in (b"", b"\0", message()[:4], message(), message(ok(), size=1000), message(ok(), size=8), message(ok(), count=0),
              message(ok(), count=3), message(ok(), version=2), message(ok(), reserved=1), message(ok(), spare=1),
              message(ok())[:-1], message(ok(), size=45) + b"\0", message(ok(), ok() + b"\0" * 8, ok())):
        tell(lab, m, note="header")
    lab.cmd("ipvsadm -Lnc")
    lab.end()

    lab.begin("sync/backup flags", "flags a master does not send, ports of 0")
    service(lab)
    lab.cmd(BACKUP)
    tell(lab, message(entry(flags=0xffff & ~(ONE_PACKET | TEMPLATE | NO_CPORT | INACTIVE), options=option(1, bytes(24))),
                      entry(client=(C, 40001), flags=0xffff0000),
                      entry(client=(C, 0)), entry(client=(D, 0), flags=NO_CPORT, state=LISTEN)))
    listings(lab)
    say(lab, "PA", 40001)
    lab.end()

    lab.begin("sync/backup old version", "messages of version 0")
    service(lab)
    lab.cmd(BACKUP)
    tell(lab, message_v0(entry_v0(), entry_v0(client=(C, 40001), state=FIN_WAIT, flags=INACTIVE),
                         entry_v0(client=(C, 40002), flags=OUT_SEQ, options=bytes(24)), entry_v0(client=(C, 40003))))
    tell(lab, message_v0(entry_v0(client=(C, 40004)), entry_v0(client=(C, 40005), flags=OUT_SEQ)))
    tell(lab, message_v0(entry_v0(client=(C, 40006), state=11), entry_v0(client=(C, 0), flags=TEMPLATE | INACTIVE, state=0)))
    listings(lab)
    say(lab, "PA")
    lab.end()

    lab.begin("sync/backup marks", "of a service of a mark, and of one of all ports")
    lab.cmd("nft 'add table ip t; add chain ip t p { type filter hook prerouting priority mangle; }; "
            "add rule ip t p ip daddr 203.0.113.0/24 meta mark set 7'")
    lab.cmd("ipvsadm -A -f 7 -s rr -p 100")
    lab.cmd(f"ipvsadm -a -f 7 -r {rip(1)}:0 -g")
    lab.cmd(f"ipvsadm -a -f 7 -r {rip(2)}:0 -g")
    lab.cmd(f"ipvsadm -A -t {VIP4}:0 -s rr -p 60")
    lab.cmd(f"ipvsadm -a -t {VIP4}:0 -r {rip(2)}:0 -m")
    lab.cmd(f"ipvsadm -a -t {VIP4}:0 -r {rip(3)}:0 -m")
    lab.cmd(BACKUP)
    tell(lab, message(entry(client=(C, 40000), service=("203.0.113.5", 443), server=(rip(1), 443), flags=DIRECT | NO_OUTPUT, mark=7),
                      entry(0, (C, 0), ("0.0.0.7", 0), (rip(1), 0), TEMPLATE | INACTIVE | DIRECT | NO_OUTPUT, 0, mark=7, timeout=100),
                      entry(client=(C, 40000), service=(VIP4, 443), server=(rip(2), 443)),
                      entry(client=(C, 0), service=(VIP4, 0), server=(rip(2), 0), flags=TEMPLATE | INACTIVE, state=1, timeout=60)))
    listings(lab)
    for i in range(3):
        say(lab, "S", 40000 + i, vip="203.0.113.5", vport=443)
        say(lab, "S", 40000 + i, vport=443)
    listings(lab)
    lab.end()

    for value in (0, 1):
        lab.begin(f"sync/backup only {value}", "a backup that does nothing else",
                  sysctls=[f"net.ipv4.vs.backup_only={value}"])
        service(lab)
        opened(lab, 2)
        lab.cmd(BACKUP)
        say(lab, "PA")
        say(lab, "S", 40001)
        answer(lab, 2, "PA")
        tell(lab, message(entry(client=(C, 40002))))
        say(lab, "PA", 40002)
        lab.cmd("ipvsadm -Lnc")
        lab.cmd("ipvsadm --stop-daemon backup")
        say(lab, "PA", 40002)
        say(lab, "PA")
        lab.cmd("ipvsadm -Lnc")
        lab.end()

    lab.begin("sync/both", "a director that is told and tells, with one id each")
    service(lab)
    lab.cmd(BACKUP)
    lab.cmd("ipvsadm --start-daemon master --mcast-interface cl0 --syncid 8")
    lab.cmd("ipvsadm -Ln --daemon")
    tell(lab, message(entry(), entry(client=(C, 40001), state=FIN_WAIT, flags=INACTIVE)))
    quiet(lab)
    say(lab, "PA", times=50)
    quiet(lab)
    say(lab, "PA", 40001)
    say(lab, "FA")
    quiet(lab)
    lab.end()

    lab.begin("sync/backup thresholds", "connections of others count for the server's limits")
    lab.cmd(f"ipvsadm -A -t {VIP4}:80 -s rr")
    lab.cmd(f"ipvsadm -a -t {VIP4}:80 -r {rip(1)}:8080 -m -x 2")
    lab.cmd(f"ipvsadm -a -t {VIP4}:80 -r {rip(2)}:8080 -m")
    lab.cmd(BACKUP)
    tell(lab, message(entry(), entry(client=(C, 40001), state=FIN_WAIT, flags=INACTIVE, timeout=10)))
    for i in range(4):
        lab.pick(tcp(D, 50000 + i, VIP4, 80))
    lab.cmd("ipvsadm -Ln")
    lab.end()


# ---- commands ------------------------------------------------------------------------------

def commands(lab):
    lab.begin("sync/commands", "the daemons are started, listed and stopped, or not")
    for c in ("ipvsadm -Ln --daemon", "ipvsadm --stop-daemon master", "ipvsadm --stop-daemon backup",
              MASTER, "ipvsadm -Ln --daemon", MASTER, BACKUP, BACKUP, "ipvsadm -Ln --daemon", "ipvsadm -Sn", "ipvsadm -C",
              "ipvsadm -Ln --daemon", "ipvsadm --stop-daemon master", "ipvsadm -Ln --daemon", "ipvsadm --stop-daemon master",
              "ipvsadm --stop-daemon backup", "ipvsadm -Ln --daemon",
              "ipvsadm --start-daemon master --mcast-interface none0 --syncid 1",
              "ipvsadm --start-daemon backup --mcast-interface none0",
              "ipvsadm --start-daemon master", "ipvsadm --start-daemon other", "ipvsadm --start-daemon master --syncid 256",
              "ipvsadm --start-daemon master --mcast-interface cl0 --mcast-group 10.0.0.1",
              "ipvsadm --start-daemon master --mcast-interface cl0 --mcast-group 2001:db8::1",
              "ipvsadm --start-daemon master --mcast-interface cl0 --sync-maxlen 70000",
              "ipvsadm --start-daemon master --mcast-interface cl0 --sync-maxlen 0",
              "ipvsadm --start-daemon master --mcast-interface cl0 --sync-maxlen 65535", "ipvsadm -Ln --daemon",
              "ipvsadm --stop-daemon master",
              "ipvsadm --start-daemon backup --mcast-interface cl0 --sync-maxlen 1", "ipvsadm -Ln --daemon",
              "ipvsadm --stop-daemon backup",
              "ipvsadm --start-daemon backup --mcast-interface cl0 --sync-maxlen 65535 --mcast-group ff02::51 --mcast-port 1 --mcast-ttl 255",
              "ipvsadm -Ln --daemon", "ipvsadm -L --daemon", "ipvsadm --stop-daemon backup",
              "ipvsadm --start-daemon master --mcast-interface cl0 --mcast-group ff02::51", "ipvsadm -Ln --daemon",
              "ipvsadm --stop-daemon master",
              "ipvsadm --start-daemon master --mcast-interface cl0 --mcast-port 0", "ipvsadm --start-daemon master --mcast-interface cl0 --mcast-ttl 0",
              "ipvsadm --start-daemon master --mcast-interface cl0 --mcast-ttl 256",
              "ipvsadm -Ln --daemon"):
        lab.cmd(c)
    lab.end()

    lab.begin("sync/mixed", "servers of another family and daemons do not go together")
    lab.cmd(f"ipvsadm -A -t [{VIP6}]:80 -s rr")
    lab.cmd(f"ipvsadm -a -t [{VIP6}]:80 -r {rip(1)}:80 -i")
    for c in (MASTER, BACKUP, "ipvsadm -Ln --daemon", f"ipvsadm -d -t [{VIP6}]:80 -r {rip(1)}:80", MASTER,
              f"ipvsadm -a -t [{VIP6}]:80 -r {rip(1)}:80 -i", "ipvsadm --stop-daemon master",
              f"ipvsadm -a -t [{VIP6}]:80 -r {rip(1)}:80 -i", MASTER, f"ipvsadm -D -t [{VIP6}]:80", MASTER):
        lab.cmd(c)
    lab.end()

    lab.begin("sync/sysctls", "the settings of synchronisation and their ranges")
    for c in ("sync_threshold", "sync_version", "sync_ports", "sync_refresh_period", "sync_retries", "sync_persist_mode",
              "sync_sock_size", "backup_only"):
        lab.cmd(f"cat /proc/sys/net/ipv4/vs/{c}")
    for name, values in (("sync_threshold", ("0 0", "3 3", "4 3", "2 50", "5", "-1 3", "3 -1", "5 0", "1 2 3", "x")),
                         ("sync_ports", ("0", "3", "2", "64", "128", "-1", "1")),
                         ("sync_version", ("2", "0", "1")), ("sync_retries", ("4", "3", "-1", "0")),
                         ("sync_refresh_period", ("10", "-1", "0", "100000000")), ("sync_persist_mode", ("1", "7", "-1", "0")),
                         ("sync_sock_size", ("65536", "-1", "0")), ("sync_qlen_max", ("100", "0", "-1")), ("backup_only", ("1", "2", "0"))):
        for v in values:
            lab.cmd(f"sh -c 'echo {v} > /proc/sys/net/ipv4/vs/{name}'; cat /proc/sys/net/ipv4/vs/{name}")
    lab.end()


def main(lab, *only):
    drain = lab._drain
    # without what the kernel says of its groups (IGMP)
    lab._drain = lambda: [o for o in drain() if not (o["hex"][24:28] == "0800" and o["hex"][46:48] == "02")]
    for f in (masters, backups, commands):
        if not only or f.__name__ in only:
            f(lab)

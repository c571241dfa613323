"""The persistence engine of SIP: calls keep their servers by Call-ID, and servers may begin calls.

    ipvs-lab/run.sh tests/golden/sip.py sip.json
    ipvs-lab/run.sh tests/golden/sip.py part.json one_packet
"""
from lab import *

C = "198.51.100.7"


def request(method, call, header="Call-ID", end="\r\n"):
    lines = [f"{method} sip:bob@example.com SIP/2.0", "Via: SIP/2.0/UDP c:5060;branch=z9hG4bK7", "From: <sip:a@c>;tag=1"]
    if call is not None:
        lines.append(f"{header}: {call}")
    lines += ["CSeq: 1 " + method, "", ""]
    return end.join(lines).encode()


def sip(src, sport, call, vip=VIP4, dport=5060, **kw):
    return udp(src, sport, vip, dport, request("INVITE", call, **kw))


def service(lab, extra="-p 100", method="-m", vip=VIP4, v=4):
    address = vip if v == 4 else f"[{vip}]"
    lab.cmd(f"ipvsadm -A -u {address}:5060 -s rr {extra} --pe sip")
    for n in (1, 2, 3):
        server = rip(n, v) if v == 4 else f"[{rip(n, v)}]"
        lab.cmd(f"ipvsadm -a -u {address}:5060 -r {server}:5060 {method}")


def listings(lab):
    lab.cmd("ipvsadm -Lnc")
    lab.cmd("ipvsadm -Lnc --persistent-conn")
    lab.cmd("cat /proc/net/ip_vs_conn")


def calls(lab):
    lab.begin("sip/calls", "a call keeps its server whatever port it comes from; another call is another one's")
    service(lab)
    lab.cmd("ipvsadm -Ln")
    lab.cmd("ipvsadm -Sn")
    for i, call in enumerate(["one@c", "two@c", "one@c", "three@c", "two@c", "one@c"]):
        lab.pick(sip(C, 6000 + i, call))
    lab.pick(sip("198.51.100.8", 6000, "one@c"), note="another client with that call")
    lab.pick(sip(C, 6000, "four@c"), note="another call of a known connection")
    listings(lab)
    lab.sleep(60)
    lab.pick(sip(C, 6100, "two@c"))
    lab.sleep(800)
    lab.pick(sip(C, 6200, "two@c"), note="forgotten")
    lab.pick(sip(C, 6201, "two@c"))
    lab.end()

    lab.begin("sip/odd", "messages that are not quite SIP")
    service(lab)
    for i, (call, kw) in enumerate([
        ("one@c", {}), (None, {}), ("one@c", {"header": "call-id"}), ("one@c", {"header": "i"}), ("one@c", {"header": "I"}),
        ("one@c", {"header": "Call-ID "}), ("  one@c", {}), ("one@c", {"end": "\n"}), ("one@c", {"end": "\r"}),
        ("", {}), ("one", {}), ("one@c ", {}), ("ONE@c", {}), ("a" * 200 + "@c", {}), ("a" * 260 + "@c", {}),
        ("o ne@c", {}), ("one@c@d", {}), ("one@c;x=1", {}), ("<one>@c", {}), ("on\\e@c", {}), ("one@", {}), ("one\te@c", {}),
        ("w" * 253 + "@c", {}), ("w" * 254 + "@c", {}), ("one@[2001:db8::1]", {}),
    ]):
        lab.pick(sip(C, 6000 + i, call, **kw), note=f"{call!r:.40} {kw}")
    for i, text in enumerate([
        b"", b"x", b"\r\n\r\n", b"OPTIONS sip:x SIP/2.0\r\nCall-ID: one@c", b"OPTIONS sip:x SIP/2.0\r\nCall-ID: one@c\r",
        b"Call-ID: one@c\r\n", b"SIP/2.0 200 OK\r\nCall-ID: one@c\r\n\r\n", b"\r\nCall-ID: one@c\r\n\r\n",
        b"OPTIONS sip:x SIP/2.0\r\nX: y\r\n Call-ID: one@c\r\n\r\n", b"OPTIONS sip:x SIP/2.0\r\n\r\nCall-ID: one@c\r\n\r\n",
        b"OPTIONS sip:x SIP/2.0\r\nCall-ID\r\n : one@c\r\n\r\n", b"OPTIONS sip:x SIP/2.0\r\nCall-ID:\r\n one@c\r\n\r\n",
        b"OPTIONS sip:x SIP/2.0\r\nCall-IDs: two@c\r\nCall-ID: one@c\r\n\r\n", b"OPTIONS sip:x SIP/2.0\r\nCall-ID:one@c\r\n\r\n",
        b"OPTIONS sip:x SIP/2.0\r\nCall-ID: \r\nCall-ID: one@c\r\n\r\n", b"OPTIONS sip:x SIP/2.0\r\nCall-ID: !\r\nCall-ID: one@c\r\n\r\n",
        b"OPTIONS sip:x SIP/2.0\r\nCall-ID: one@c\0\r\n\r\n", b"OPTIONS sip:x SIP/2.0\nCall-ID: one@c\n\n",
        b"OPTIONS sip:x SIP/2.0\r\nX: Call-ID: two@c\r\nCall-ID: one@c\r\n\r\n", b"OPTIONS sip:x SIP/2.0\r\nI: one@c\r\n\r\n",
        b"OPTIONS sip:x SIP/2.0\r\ni : one@c\r\n\r\n", b"OPTIONS sip:x SIP/2.0\r\ni\t:\tone@c\r\n\r\n",
        b"i: one@c\r\n\r\n", b"\ni: one@c\r\n\r\n", b"\ri: one@c\r\n\r\n", b"x\ri: one@c\r\n\r\n",
    ]):
        lab.pick(udp(C, 7000 + i, VIP4, 5060, text), note=repr(text)[2:72])
    lab.end()

    lab.begin("sip/servers", "servers begin calls, and answer known ones")
    service(lab)
    lab.send("cl", sip(C, 6000, "one@c"))
    lab.send(1, udp(rip(1), 5060, C, 6000, request("BYE", "one@c")))
    lab.send(3, udp(rip(3), 5060, C, 6000, request("BYE", "one@c")), note="one that is not the call's")
    lab.send(2, udp(rip(2), 5060, C, 5060, request("INVITE", "new@s")), note="a call from a server")
    lab.send("cl", udp(C, 5060, VIP4, 5060, b"SIP/2.0 200 OK\r\nCall-ID: new@s\r\n\r\n"), note="its answer")
    lab.send(2, udp(rip(2), 5061, C, 5060, request("INVITE", "new@s")), note="from another port")
    lab.send(2, udp(rip(2), 5060, "198.51.100.9", 5060, b"no call"), note="nothing of SIP")
    lab.send(3, tcp(rip(3), 5060, C, 5060, "S"), note="TCP")
    lab.send("cl", sip(C, 6001, "new@s"), note="the same call from another port")
    listings(lab)
    lab.sleep(4)
    lab.cmd("ipvsadm -Ln --stats")
    lab.end()

    lab.begin("sip/mask", "with a netmask")
    service(lab, "-p 100 -M 255.255.255.0")
    for i, (src, call) in enumerate([(C, "one@c"), ("198.51.100.200", "one@c"), ("198.51.101.7", "one@c"), ("198.51.100.200", "two@c")]):
        lab.pick(sip(src, 6000 + i, call))
    listings(lab)
    lab.end()

    lab.begin("sip/v6", "IPv6")
    service(lab, vip=VIP6, v=6)
    for i, call in enumerate(["one@c", "two@c", "one@c"]):
        lab.pick(sip("2001:db8:ffff::7", 6000 + i, call, vip=VIP6))
    listings(lab)
    lab.send(2, udp(rip(2, 6), 5060, "2001:db8:ffff::7", 5060, request("INVITE", "new@s")), note="a call from a server")
    lab.end()

    lab.begin("sip/mark", "a service of a mark")
    lab.cmd("nft add table ip m")
    lab.cmd("nft 'add chain ip m c { type filter hook prerouting priority mangle; }'")
    lab.cmd(f"nft add rule ip m c ip daddr {VIP4} udp dport 5060-5070 meta mark set 7")
    lab.cmd("ipvsadm -A -f 7 -s rr -p 100 --pe sip")
    for n in (1, 2, 3):
        lab.cmd(f"ipvsadm -a -f 7 -r {rip(n)}:0 -m")
    for i, (call, port) in enumerate([("one@c", 5060), ("two@c", 5060), ("one@c", 5061), ("two@c", 5062), ("three@c", 5060)]):
        lab.pick(sip(C, 6000 + i, call, dport=port))
    listings(lab)
    lab.send(2, udp(rip(2), 5060, C, 5060, request("INVITE", "new@s")), note="a call from a server")
    lab.end()

    lab.begin("sip/ops", "one-packet scheduling, direct routing, removal")
    service(lab, "-p 100 -o", "-g")
    for i, call in enumerate(["one@c", "two@c", "one@c", "three@c"]):
        lab.pick(sip(C, 6000 + i, call))
    lab.cmd(f"ipvsadm -d -u {VIP4}:5060 -r {rip(1)}:5060")
    for i, call in enumerate(["one@c", "two@c", "one@c", "three@c"]):
        lab.pick(sip(C, 6010 + i, call))
    listings(lab)
    lab.end()

    lab.begin("sip/errors", "what may have a persistence engine")
    lab.cmd(f"ipvsadm -A -u {VIP4}:5060 -s rr --pe sip")
    lab.cmd(f"ipvsadm -A -t {VIP4}:5060 -s rr -p 100 --pe sip")
    lab.cmd(f"ipvsadm -A -u {VIP4}:5061 -s rr -p 100 --pe other")
    lab.cmd(f"ipvsadm -A -u {VIP4}:5062 -s rr -p 100")
    lab.cmd(f"ipvsadm -E -u {VIP4}:5062 -s rr -p 100 --pe sip")
    lab.cmd(f"ipvsadm -E -u {VIP4}:5062 -s wrr -p 100")
    lab.cmd("ipvsadm -Sn")
    lab.cmd("ipvsadm -Ln")
    lab.end()


def one_packet(lab):
    """What a datagram of the client makes of its call's template, and what one of a server does."""
    lab.begin("sip one packet/servers", "servers speak up in calls of which no connection is kept")
    service(lab, "-p 100 -o")
    lab.send("cl", sip(C, 6000, "one@c"))
    lab.cmd("ipvsadm -Lnc")
    lab.sleep(10)
    lab.send("cl", sip(C, 6000, "one@c"), note="again")
    lab.cmd("ipvsadm -Lnc")
    lab.sleep(10)
    lab.send(3, udp(rip(3), 5060, C, 6000, request("BYE", "one@c")), note="of the call's server")
    lab.cmd("ipvsadm -Lnc")
    lab.sleep(10)
    lab.send("cl", sip(C, 6001, "one@c"))
    lab.cmd("ipvsadm -Lnc")
    lab.sleep(10)
    lab.send(2, udp(rip(2), 5060, C, 6000, request("BYE", "one@c")), note="one that is not the call's")
    lab.cmd("ipvsadm -Lnc")
    lab.send("cl", sip(C, 6000, "one@c"), note="to it from now on")
    lab.send(1, udp(rip(1), 5060, C, 5060, request("INVITE", "new@s")), note="a call from a server")
    lab.send(1, udp(rip(1), 5060, C, 5060, b"no call"), note="nothing of SIP")
    lab.cmd("ipvsadm -Lnc")
    lab.sleep(10)
    lab.send("cl", udp(C, 5060, VIP4, 5060, b"SIP/2.0 200 OK\r\nCall-ID: new@s\r\n\r\n"), note="its answer")
    lab.cmd("ipvsadm -Lnc")
    lab.sleep(4)
    lab.cmd("ipvsadm -Ln --stats")
    lab.sleep(150)
    lab.cmd("ipvsadm -Lnc")
    lab.end()

    for extra in ("-p 100", "-p 100 -o"):
        lab.begin(f"sip told/{extra}", "what another director is told of calls")
        service(lab, extra)
        lab.cmd("ipvsadm --start-daemon master --mcast-interface cl0 --syncid 7")
        for i in range(3):
            lab.send("cl", sip(C, 6000, "one@c"))
            lab.sleep(6)
        lab.send(3, udp(rip(3), 5060, C, 6000, request("BYE", "one@c")), note="of the call's server")
        lab.sleep(6)
        for i in range(3):
            lab.send(1, udp(rip(1), 5060, C, 6001, request("INVITE", "two@s")), note="a call from a server")
            lab.sleep(6)
        for i in range(3):
            lab.send("cl", sip(C, 6001, "two@s"))
            lab.sleep(6)
        lab.end()


def no_hops(lab):
    """A server's call that has no hops left to go."""
    for v in (4, 6):
        client, vip = (C, VIP4) if v == 4 else ("2001:db8:ffff::7", VIP6)
        for extra in ("-p 100", "-p 100 -o"):
            lab.begin(f"sip no hops/{v} {extra}", "the kernel tells the server before IPVS sees its call")
            service(lab, extra, "-m", vip, v)
            lab.send(1, udp(rip(1, v), 5060, client, 6001, request("INVITE", "one@s"), ttl=1))
            lab.cmd("ipvsadm -Lnc")
            lab.send(1, udp(rip(1, v), 5060, client, 6001, request("INVITE", "one@s"), ttl=2))
            lab.send("cl", udp(client, 6002, vip, 5060, request("BYE", "one@s"), ttl=1), note="of the client")
            lab.send("cl", udp(client, 6003, vip, 5060, request("BYE", "two@s"), ttl=1), note="another call")
            lab.cmd("ipvsadm -Lnc")
            lab.send(1, udp(rip(1, v), 5060, client, 6001, request("INVITE", "one@s"), ttl=1), note="known")
            lab.sleep(4)
            lab.cmd("ipvsadm -Ln --stats")
            lab.end()

    for v in (4, 6):
        client, vip = (C, VIP4) if v == 4 else ("2001:db8:ffff::7", VIP6)
        for extra in ("-p 100", "-p 100 -o"):
            lab.begin(f"sip no way/{v} {extra}", "a server's call that is too big, and one to nowhere")
            service(lab, extra, "-m", vip, v)
            lab.cmd("ip link set cl0 mtu 1400")
            big = b"x" * 1280
            lab.send(1, udp(rip(1, v), 5060, client, 6001, request("INVITE", "one@s") + big))
            lab.cmd("ipvsadm -Lnc")
            if v == 4:
                lab.send(1, udp(rip(1, v), 5060, client, 6002, request("INVITE", "two@s") + big, df=False))
            lab.cmd(f"ip {'-6 ' if v == 6 else ''}route del default")
            lab.send(1, udp(rip(1, v), 5060, client, 6003, request("INVITE", "three@s")))
            lab.cmd("ipvsadm -Lnc")
            lab.sleep(4)
            lab.cmd("ipvsadm -Ln --stats")
            lab.end()


def shared(lab):
    """Servers of two services begin calls."""
    for v in (4, 6):
        client, vip, other = (C, VIP4, "203.0.113.5") if v == 4 else ("2001:db8:ffff::7", VIP6, "2001:db8:f::5")
        lab.begin(f"sip shared/{v}", "a call goes by the service that its server was added to last")
        service(lab, "-p 100", "-m", vip, v)
        lab.send(1, udp(rip(1, v), 5060, client, 6001, request("INVITE", "one@s")))
        service(lab, "-p 100", "-m", other, v)
        lab.send(1, udp(rip(1, v), 5060, client, 6002, request("INVITE", "two@s")))
        lab.send("cl", udp(client, 6002, other, 5060, request("BYE", "two@s")), note="its answer")
        lab.send("cl", udp(client, 6003, vip, 5060, request("BYE", "two@s")), note="the call at the other service")
        lab.cmd("ipvsadm -Lnc")
        at = f"[{other}]" if v == 6 else other
        lab.cmd(f"ipvsadm -D -u {at}:5060")
        lab.send(1, udp(rip(1, v), 5060, client, 6004, request("INVITE", "three@s")), note="one service again")
        lab.sleep(4)
        lab.cmd("ipvsadm -Ln --stats")
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


def fragments(lab):
    """Datagrams in fragments: what the kernel looked into it cuts anew."""
    for v in (4, 6):
        client, vip, df = (C, VIP4, {"df": False}) if v == 4 else ("2001:db8:ffff::7", VIP6, {})
        for method, extra in (("-m", "-p 100"), ("-m", "-p 100 -o"), ("-i", "-p 100")):
            lab.begin(f"sip fragments/{v} {method} {extra}", "the Call-ID in whichever fragment")
            service(lab, extra, method, vip, v)
            ident = 100
            for fill, sizes in ((0, (96,)), (0, (16, 64)), (0, (104, 8, 8)), (1300, (1240,))):
                for order in (1, -1):
                    message = request("INVITE", f"{ident}@c") + b"x" * fill
                    for port in (6000 + ident, 6000 + ident, 6001 + ident):
                        packet = udp(client, port, vip, 5060, message, **df)
                        for n, piece in enumerate(pieces(packet, sizes, ident)[::order]):
                            lab.send("cl", piece, note=f"{fill} {sizes} {order}: {n}")
                    if method == "-m":
                        packet = udp(rip(1, v), 5060, client, 6002 + ident, request("INVITE", f"{ident}@s") + b"x" * fill, **df)
                        for n, piece in enumerate(pieces(packet, sizes, ident)[::order]):
                            lab.send(1, piece, note=f"a server's call, {fill} {sizes} {order}: {n}")
                    ident += 3
            lab.cmd("ipvsadm -Lnc")
            lab.sleep(4)
            lab.cmd("ipvsadm -Ln --stats")
            lab.end()


def main(lab, *only):
    for part in (calls, one_packet, no_hops, shared, fragments):
        if not only or part.__name__ in only:
            part(lab)

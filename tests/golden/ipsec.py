"""AH and ESP: they follow the connection of UDP port 500 between the same two, and are never scheduled.

    ipvs-lab/run.sh tests/golden/ipsec.py ipsec.json
"""
import struct

from lab import *

AH, ESP = 51, 50
SPI = b"\x00\x00\x10\x01\x00\x00\x00\x07" + bytes(range(40))


def isakmp(src, dst):
    return udp(src, 500, dst, 500, b"isakmp" * 5)


def both_ways(lab, method, v=4):
    vip, client = (VIP4, "198.51.100.7") if v == 4 else (VIP6, "2001:db8:ffff::7")
    address = vip if v == 4 else f"[{vip}]"
    lab.cmd(f"ipvsadm -A -u {address}:500 -s rr")
    for n in (1, 2):
        server = rip(n, v) if v == 4 else f"[{rip(n, v)}]"
        lab.cmd(f"ipvsadm -a -u {address}:500 -r {server}:500 {method}")
    lab.send("cl", ip(client, vip, ESP, SPI), note="before any key was agreed on")
    n = lab.server(isakmp(client, vip))
    lab.send(n, isakmp(rip(n, v), client))
    for kind in (ESP, AH) if v == 4 else (ESP,):
        body = SPI if kind == ESP else b"\x04\x04\x00\x00" + SPI
        lab.send("cl", ip(client, vip, kind, body))
        lab.send(n, ip(rip(n, v), client, kind, body))
    other = client[:-1] + "8"
    lab.send("cl", ip(other, vip, ESP, SPI), note="another client")
    lab.send(3 - n, ip(rip(3 - n, v), client, ESP, SPI), note="the other server")
    return vip, client, n


def main(lab):
    lab.begin("ipsec/nat", "ESP and AH after ISAKMP, NAT")
    vip, client, n = both_ways(lab, "-m")
    quoted = ip(rip(n), client, ESP, SPI)
    seen = ip(vip, client, ESP, SPI)
    lab.send("cl", icmp("198.51.100.254", vip, 3, 4, 1400, seen[:28]), note="an error about the server's ESP")
    lab.send("cl", icmp("198.51.100.254", vip, 11, 0, 0, seen), note="another, quoted whole")
    lab.send(n, icmp("10.1.0.99", client, 3, 4, 1400, ip(client, rip(n), ESP, SPI)[:28]), note="one about the client's")
    lab.sleep(4)
    lab.cmd("ipvsadm -Ln --stats")
    lab.cmd("ipvsadm -Lnc")
    lab.sleep(290)
    lab.send("cl", ip(client, vip, ESP, SPI), note="keeps the connection")
    lab.sleep(200)
    lab.send("cl", ip(client, vip, ESP, SPI), note="still there")
    lab.sleep(400)
    lab.send("cl", ip(client, vip, ESP, SPI), note="gone")
    lab.end()

    lab.begin("ipsec/nat-v6", "ESP after ISAKMP, NAT, IPv6")
    both_ways(lab, "-m", 6)
    lab.cmd("ipvsadm -Lnc")
    lab.end()

    lab.begin("ipsec/direct", "ESP and AH after ISAKMP, direct routing")
    both_ways(lab, "-g")
    lab.end()

    lab.begin("ipsec/tunnel", "ESP and AH after ISAKMP, IPIP")
    both_ways(lab, "-i")
    lab.end()

    lab.begin("ipsec/port", "the server's port is not 500: its ESP belongs to nothing")
    lab.cmd(f"ipvsadm -A -u {VIP4}:500 -s rr")
    lab.cmd(f"ipvsadm -a -u {VIP4}:500 -r {rip(1)}:1500 -m")
    lab.server(isakmp("198.51.100.7", VIP4))
    lab.send("cl", ip("198.51.100.7", VIP4, ESP, SPI))
    lab.send(1, ip(rip(1), "198.51.100.7", ESP, SPI))
    lab.end()

    for method in ("-m", "-g"):
        lab.begin(f"ipsec/fragments {method}", "of ESP and AH: whole to the virtual address, each for itself from the servers")
        lab.cmd(f"ipvsadm -A -u {VIP4}:500 -s rr")
        for n in (1, 2):
            lab.cmd(f"ipvsadm -a -u {VIP4}:500 -r {rip(n)}:500 {method}")
        client = "198.51.100.7"
        n = lab.server(isakmp(client, VIP4))
        lab.send(n, isakmp(rip(n), client))
        for kind in (ESP, AH):
            body = SPI if kind == ESP else b"\x04\x04\x00\x00" + SPI[:44]
            for ident, order, ttl in ((1, (0, 1, 2), 64), (2, (2, 0, 1), 64), (3, (1, 2), 64), (4, (0, 1, 2), 1)):
                for port, src, dst in (("cl", client, VIP4), (n, rip(n), client), (3 - n, rip(3 - n), client),
                                       (n, rip(n), "198.51.100.8")):
                    for part in order:
                        lab.send(port, ip(src, dst, kind, body[part * 16:part * 16 + 16], ttl=ttl, ident=ident + kind * 256, df=False,
                                          frag=part * 2 | (0x2000 if part < 2 else 0)))
        lab.cmd("ipvsadm -Lnc")
        lab.sleep(5)
        lab.cmd("ipvsadm -Ln --stats")
        lab.end()

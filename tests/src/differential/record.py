"""Does what pollux_tests::differential planned, and writes down what the kernel made of it.

    ipvs-lab/run.sh tests/src/differential/record.py OUT.json PLANS.json
"""
import json, shlex

from lab import *

# What is local by a route only is no address: IPv6 would answer in another's name.
ADDRESSES = ("2001:db8:f::5", "2001:db8:f::9")


def wait(lab, since, planned):
    """Waits until what the generator thinks the time is; records how much has passed; what to count from next."""
    left = planned - time.monotonic()
    lab.rec["lag"] = max(lab.rec["lag"], round(-left, 2))
    if left > 0:
        time.sleep(left)
    took = round(time.monotonic() - since, 2)
    if took > 0:
        lab.rec["steps"].append({"sleep": took})
    return since + took


def run(lab, command):
    """As lab.cmd, without a shell where none is needed: starting programs is what takes the time."""
    if set(command) & set("'\"|&;<>$`(){}*?!\\#~"):
        lab.cmd(command)
        return
    with lab._inside():
        p = subprocess.Popen(shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
    text = p.communicate()[0]
    lab.rec["steps"].append({"cmd": command, "rc": p.returncode, "text": text})


def play(lab, plan):
    lab.begin(plan["name"], "differential fuzzing; hop-by-hop options kept", sysctls=plan["sysctls"])
    for address in ADDRESSES:
        lab.quiet(f"ip addr add {address}/128 dev lo nodad")
    lab.rec["lag"] = 0
    pace = plan["pace"]
    since = planned = time.monotonic()
    for step in plan["steps"]:
        if "sleep" in step:
            planned += step["sleep"]
            left = max(round(planned - time.monotonic(), 2), 0.01)
            lab.sleep(left)
            since += left
        elif "command" in step:
            planned += pace["command"]
            run(lab, step["command"])
            since = wait(lab, since, planned)
        else:
            planned += pace["packet"]
            packet = bytes.fromhex(step["packet"]["bytes"])
            lab.send(step["packet"]["server"] or "cl", packet)
            since = wait(lab, since, planned)
    lab.end()


def is_report(packet):
    """Whether an IPv6 packet is of neighbours or of multicast listeners: ICMPv6 of types 130 to 143."""
    at = 40 + (8 * (packet[41] + 1) if packet[6] == 0 else 0)
    number = packet[40] if packet[6] == 0 else packet[6]
    return number == 58 and 130 <= packet[at] <= 143


def drain(lab):
    """What came out, as the lab has it; but the lab leaves out all frames with hop-by-hop options."""
    got = []
    for name, s in lab.port.items():
        while True:
            try:
                frame, address = s.recvfrom(70000)
            except BlockingIOError:
                break
            if address[2] == socket.PACKET_OUTGOING:
                continue
            kind, packet = frame[12:14], frame[14:]
            if kind == b"\x86\xdd" and is_report(packet):
                continue
            out = {"port": name, "hex": frame.hex(), "txt": show(packet) if kind in (b"\x08\x00", b"\x86\xdd") else kind.hex()}
            if name == "rs":
                n = frame[5] - 0x10
                out["server"] = n if frame[:5] == mac(MAC_RS0)[:5] and 1 <= n <= SERVERS else frame[:6].hex()
            got.append(out)
    return got


def main(lab, plans):
    Lab._drain = drain
    # The limit on ICMP messages is the whole kernel's and would make what comes out depend on what came before.
    for name in ("icmp_msgs_burst", "icmp_msgs_per_sec"):
        lab._write(f"/proc/sys/net/ipv4/{name}", "1000000")
    with open(plans) as lines:
        for line in lines:
            play(lab, json.loads(line))

"""Does what pollux_tests::differential planned, and writes down what the kernel made of it.

    ipvs-lab/run.sh tests/src/differential/record.py OUT.json PLANS.json
"""
import json, shlex

from lab import *

# What is local by a route only is no address: IPv6 would answer in another's name.
ADDRESSES = ("2001:db8:f::5", "2001:db8:f::9")
# Virtual seconds that commands and frames may take before they are recorded as a sleep.
DRIFT = 0.2
# Virtual seconds after each command and frame.
TICKS = 0.03  # What the kernel puts off to its next tick is done before the next step.


def passed(lab, since):
    """Records the time that the steps since then took, once it is worth it; what to count from next."""
    took = time.monotonic() - since
    if took < DRIFT:
        return since
    lab.rec["steps"].append({"sleep": round(took, 2)})
    return since + round(took, 2)


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
    lab.begin(plan["name"], "differential fuzzing", sysctls=plan["sysctls"])
    for address in ADDRESSES:
        lab.quiet(f"ip addr add {address}/128 dev lo nodad")
    since = time.monotonic()
    for step in plan["steps"]:
        since = passed(lab, since)
        if "command" in step:
            run(lab, step["command"])
            time.sleep(TICKS)
        elif "sleep" in step:
            lab.sleep(step["sleep"])
            since += step["sleep"]
        else:
            packet = bytes.fromhex(step["packet"]["bytes"])
            lab.send(step["packet"]["server"] or "cl", packet)
            time.sleep(TICKS)
    lab.end()


def main(lab, plans):
    # The limit on ICMP messages is the whole kernel's and would make what comes out depend on what came before.
    for name in ("icmp_msgs_burst", "icmp_msgs_per_sec"):
        lab._write(f"/proc/sys/net/ipv4/{name}", "1000000")
    with open(plans) as lines:
        for line in lines:
            play(lab, json.loads(line))

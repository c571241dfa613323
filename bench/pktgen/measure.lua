-- What the profiles share: loading a command file, opening connections, sending for a while, and saying how it went.
--
-- Settings come from the environment:
--   PKTGEN_SECONDS        how long a measurement takes (10)
--   PKTGEN_DIRECTOR_MAC   the MAC of the director's port, if not the one in the command files
--   PKTGEN_RESULTS        a file that gets one JSON object a measurement; without it they are printed
--   PKTGEN_ASK            a command that prints the director's counters as JSON (`pollux --json show drops`); what it
--                         says before and after goes into the object
local measure = {}

measure.PORT = "0"
-- Frames that pktgen 23.06.1 keeps for a queue. In range mode it builds each once, at `start`.
measure.FRAMES = 24576
-- 198.18.0.0/15, which RFC 2544 sets apart for this.
measure.FIRST_CLIENT = (198 << 24) + (18 << 16)
measure.CLIENTS = 131072

local COMMAND_FILE_MAC = "02:00:00:00:01:01"
-- pktgen looks at its ports' counters once a second, on a busy machine less often.
local SETTLE_MS = 2500

measure.seconds = tonumber(os.getenv("PKTGEN_SECONDS") or "10")

-- In seconds; os.clock() is CPU time, and pktgen.delay() takes longer than it is told.
local function now()
    local file = assert(io.open("/proc/uptime"))
    local uptime = file:read("n")
    file:close()
    return uptime
end

-- Not all commands have a Lua function, TCP flags for one.
function measure.commands(...)
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(table.concat({ ... }, "\n"), "\n")
    file:close()
    pktgen.load(path)
    os.remove(path)
end

-- Loads a command file of this folder, with the director's MAC in it.
function measure.load(name)
    local file = assert(io.open(name))
    local text = file:read("a")
    file:close()
    local mac = os.getenv("PKTGEN_DIRECTOR_MAC")
    if mac then
        text = text:gsub(COMMAND_FILE_MAC, mac)
    end
    measure.commands(text)
end

local function tcp_flag(flag)
    measure.commands("range 0 tcp flag clr all", "range 0 tcp flag set " .. flag)
end

-- Gives all frames of the next `start` addresses of their own from `first` on, in host order, and one port.
function measure.clients(first, port)
    local function dotted(address)
        return string.format("%d.%d.%d.%d", address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255)
    end
    local range = pktgen.range
    range.src_ip(measure.PORT, "min", dotted(first))
    range.src_ip(measure.PORT, "max", dotted(first + measure.FRAMES - 1))
    range.src_ip(measure.PORT, "start", dotted(first))
    range.src_ip(measure.PORT, "inc", "0.0.0.1")
    range.src_port(measure.PORT, "inc", 0)
    range.src_port(measure.PORT, "start", port)
end

-- Builds the frames anew and sends so many.
function measure.send_frames(count)
    pktgen.set(measure.PORT, "count", count)
    pktgen.start(measure.PORT)
    local deadline = now() + 60
    while pktgen.isSending(measure.PORT)[tonumber(measure.PORT)] ~= "n" do
        assert(now() < deadline, "pktgen does not get its frames out: is the link up?")
        pktgen.delay(1)
    end
end

local function wait_for_link()
    local deadline = now() + 30
    while not tostring(pktgen.linkState("0")[0]):find("UP") do
        assert(now() < deadline, "the link of port 0 does not come up")
        pktgen.delay(100)
    end
end

-- Opens the connections of `rounds` rounds with SYNs; `choose` sets a round's addresses. An ACK whose SYN was lost on the
-- way belongs to no connection: hence a hundredth of the link's rate, and two SYNs each, as pktgen hurries at first to
-- catch up with the time that building its frames took.
function measure.open(rounds, choose)
    tcp_flag("syn")
    pktgen.set(measure.PORT, "rate", 1)
    for round = 1, rounds do
        choose(round)
        measure.send_frames(2 * measure.FRAMES)
    end
    pktgen.set(measure.PORT, "rate", 100)
    tcp_flag("ack")
end

-- Sends without an end for the time of a measurement.
function measure.send_on()
    pktgen.set(measure.PORT, "count", 0)
    pktgen.start(measure.PORT)
    local deadline = now() + measure.seconds
    while now() < deadline do
        pktgen.delay(10)
    end
    pktgen.stop(measure.PORT)
end

-- Calls `send` with numbers from 1 on until the time of a measurement is over.
function measure.again(send)
    local deadline = now() + measure.seconds
    local round = 0
    while now() < deadline do
        round = round + 1
        send(round)
    end
end

local function ask()
    local command = os.getenv("PKTGEN_ASK")
    if not command then
        return "null"
    end
    local pipe = assert(io.popen(command))
    local answer = pipe:read("a")
    assert(pipe:close(), "this failed: " .. command)
    return (answer:gsub("%s*\n%s*", " "))
end

local function report(line)
    local path = os.getenv("PKTGEN_RESULTS")
    local file = path and assert(io.open(path, "a")) or io.stdout
    file:write(line, "\n")
    if path then
        file:close()
    end
end

-- What was sent on the first port and received on all, when all frames have arrived and are counted.
local function final_counters()
    local sent, bytes, received
    for _ = 1, 10 do
        local sent_before, received_before = sent, received
        pktgen.delay(SETTLE_MS)
        local ports = pktgen.portStats("all", "port")
        sent, bytes, received = ports[0].opackets, ports[0].obytes, 0
        for port = 0, ports.n - 1 do
            received = received + ports[port].ipackets
        end
        if sent == sent_before and received == received_before then
            return sent, bytes, received
        end
    end
    error("the counters of pktgen's ports do not come to rest")
end

-- Counts what is sent on the first port and received on all while `send` runs.
function measure.run(profile, frame, send)
    pktgen.delay(SETTLE_MS)
    local before = ask()
    pktgen.clr()
    local started = now()
    send()
    local seconds = now() - started
    local sent, bytes, received = final_counters()
    local after = ask()
    report(string.format(
        '{"profile":"%s","frame":"%s","seconds":%.2f,"sent":%d,"sent_bytes":%d,"received":%d,"before":%s,"after":%s}',
        profile, frame, seconds, sent, bytes, received, before, after))
end

-- Runs a whole script: whatever happens, pktgen ends, and an error is among the results.
function measure.script(body)
    local fine, problem = pcall(function()
        -- pktgen only looks at links to show them.
        pktgen.screen("on")
        wait_for_link()
        pktgen.screen("off")
        body()
    end)
    if not fine then
        pktgen.stop("all")
        report(string.format('{"error":"%s"}', tostring(problem):gsub('[%c"\\]', " ")))
    end
    pktgen.quit()
end

return measure

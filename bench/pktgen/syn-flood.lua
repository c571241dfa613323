-- A SYN flood: each SYN from an address and port that have not been there before, in no order that a cache could use.
-- As pktgen builds all its frames before it sends them, the flood comes in waves.
local measure = require "measure"

local FIRST_PORT, LAST_PORT = 1024, 65535

-- Fisher and Yates.
local function shuffled_ports()
    local ports = {}
    for port = FIRST_PORT, LAST_PORT do
        ports[#ports + 1] = port
    end
    for last = #ports, 2, -1 do
        local other = math.random(last)
        ports[last], ports[other] = ports[other], ports[last]
    end
    return ports
end

measure.script(function()
    math.randomseed(os.time())
    measure.load("syn-flood.pkt")
    local ports = shuffled_ports()
    measure.run("syn-flood", 64, function()
        measure.again(function(wave)
            -- A port is in one wave only.
            local port = assert(ports[wave], "no ports are left: measure for a shorter time")
            local first = measure.FIRST_CLIENT + math.random(0, measure.CLIENTS - measure.FRAMES)
            measure.clients(first, port)
            measure.send_frames(measure.FRAMES)
        end)
    end)
end)

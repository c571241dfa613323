-- Many established TCP connections, 64-byte frames: PKTGEN_FLOWS of them (500,000), rounded up to whole rounds of as
-- many as pktgen has frames for. It builds its frames anew for each round, in which time it sends nothing: the rate is
-- the generator's, what is lost and what the director counts is not.
local measure = require "measure"

local ROUNDS = math.ceil(tonumber(os.getenv("PKTGEN_FLOWS") or "500000") / measure.FRAMES)
-- Rounds whose addresses differ; after that they differ by port.
local BLOCKS = measure.CLIENTS // measure.FRAMES
local FIRST_PORT = 1024
-- How often each connection gets a frame before the next round's turn.
local TURNS = 8

local function connections_of(round)
    local number = round % ROUNDS
    measure.clients(measure.FIRST_CLIENT + number % BLOCKS * measure.FRAMES, FIRST_PORT + number // BLOCKS)
end

measure.script(function()
    measure.load("flows.pkt")
    measure.open(ROUNDS, connections_of)
    measure.run("many-flows", 64, function()
        measure.again(function(round)
            connections_of(round)
            measure.send_frames(TURNS * measure.FRAMES)
        end)
    end)
end)

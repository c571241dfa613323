-- 24,576 established TCP connections, in the seven frame sizes of RFC 2544 9.1.
local measure = require "measure"

local SIZES = { 64, 128, 256, 512, 1024, 1280, 1518 }

measure.script(function()
    measure.load("flows.pkt")
    measure.open(1, function() end)
    for _, size in ipairs(SIZES) do
        measure.commands("range 0 size start " .. size)
        measure.run("sweep", size, measure.send_on)
    end
end)

-- IMIX over UDP: seven frames of 64 bytes, four of 570, one of 1518.
local measure = require "measure"

measure.script(function()
    measure.load("imix.pkt")
    measure.run("imix", "7:4:1", measure.send_on)
end)

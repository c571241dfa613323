-- Generic UDP encapsulation, as in draft-ietf-intarea-gue and Linux' module fou, for tshark, which does not know it.
local gue = Proto("gue", "Generic UDP Encapsulation")
local inside = { [4] = Dissector.get("ip"), [41] = Dissector.get("ipv6") }

function gue.dissector(buffer, packet, tree)
    if buffer:len() < 4 then return 0 end
    -- Version, 2 bits; control, 1 bit; 32-bit words behind the first one, 5 bits. Then protocol and flags.
    local first = buffer(0, 1):uint()
    if first >= 0x20 then return 0 end
    local header = 4 + 4 * first
    tree:add(gue, buffer(0, 4))
    local dissector = inside[buffer(1, 1):uint()]
    if dissector and buffer:len() > header then
        dissector:call(buffer(header):tvb(), packet, tree)
    end
    return buffer:len()
end

-- Where the lab's real servers take it.
DissectorTable.get("udp.port"):add(5555, gue)

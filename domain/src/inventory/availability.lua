-- Counts one event's seats, after giving back what is overdue.
-- KEYS  inventory, holds, uh
-- ARGV  ticket types
-- Says  {rebuilding} or {ready, now ms, then for each: capacity, sold, reserved, held; four -1 where unknown}
local ev = KEYS[1]
if not is_ready(ev) then return { 'rebuilding' } end
local now = now_ms()
expire(ev, KEYS[2], KEYS[3], now, now, 200)
local reply = { 'ready', now }
for _, tt in ipairs(ARGV) do
  local f = redis.call('HMGET', ev, 'c:' .. tt, 's:' .. tt, 'r:' .. tt, 'h:' .. tt)
  for i = 1, 4 do reply[#reply + 1] = tonumber(f[i] or -1) end
end
return reply

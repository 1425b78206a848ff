-- Counts one event's seats, after giving back what is overdue.
-- KEYS  inventory, holds, uh
-- ARGV  ticket types
-- Says  {rebuilding} or {ready, now ms, then for each: capacity, sold, reserved, held, reserved and in holds,
--       the waitlist's share, tickets waited for; -1 and six 0 where unknown}
local ev = KEYS[1]
if not is_ready(ev) then return { 'rebuilding' } end
local now = now_ms()
expire(ev, KEYS[2], KEYS[3], now, now, 200)
local reply = { 'ready', now }
for _, tt in ipairs(ARGV) do
  local f = redis.call('HMGET', ev, 'c:' .. tt, 's:' .. tt, 'r:' .. tt, 'h:' .. tt, 'o:' .. tt, 'w:' .. tt)
  reply[#reply + 1] = tonumber(f[1] or -1)
  for i = 2, 5 do reply[#reply + 1] = tonumber(f[i] or 0) end
  reply[#reply + 1] = f[1] and math.max(0, free(ev, tt) - public(ev, tt)) or 0
  reply[#reply + 1] = tonumber(f[6] or 0)
end
return reply

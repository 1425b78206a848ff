-- Begins a join of the waitlist: from here on nothing that comes free is the public's, until the join is decided.
-- KEYS  inventory, holds, uh, us, joining
-- ARGV  ticket type, quantity, user, the join
-- Says  {rebuilding} {not_found} {unknown_ticket_type} {sale_closed} {more_than_all, capacity} {seats_available}
--       {limit, have, may} {begun}
local ev, holds, uh, us, joining = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local tt, quantity, user = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local m = redis.call('HMGET', ev, 'state', 'server', 'st', 'ss', 'se', 'lim', 'c:' .. tt)
if m[1] ~= 'ready' or m[2] ~= SERVER then return { 'rebuilding' } end
if m[3] == 'draft' then return { 'not_found' } end
if not m[7] then return { 'unknown_ticket_type' } end
local now = now_ms()
if m[3] ~= 'published' or now < tonumber(m[4]) or now >= tonumber(m[5]) then return { 'sale_closed' } end
-- Those could wait for ever, and what comes free with them.
if quantity > tonumber(m[7]) then return { 'more_than_all', tonumber(m[7]) } end
while public(ev, tt) < quantity do
  if expire(ev, holds, uh, now, now, 500) == 0 then break end
end
if public(ev, tt) >= quantity then return { 'seats_available' } end
local sold = redis.call('HGET', us, user)
local have = (redis.call('HGET', uh, user) or 0) + (sold and tonumber(string.match(sold, '^(%d+):')) or 0)
if have + quantity > tonumber(m[6]) then return { 'limit', have, tonumber(m[6]) } end
if redis.call('ZADD', joining, now, tt .. ':' .. ARGV[4]) == 1 then
  redis.call('HINCRBY', ev, 'j:' .. tt, 1)
  set_gate(ev, tt, public(ev, tt))
end
return { 'begun' }

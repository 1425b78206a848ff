-- Places a hold: every line of the basket or none. What is kept for the waitlist it does not see.
-- KEYS  inventory, holds, the hold, uh, us, the idempotency key
-- ARGV  hold id, user, fingerprint of the request, then for each line: ticket type, quantity
-- Says  {rebuilding} {not_found} {reused} {limit, have, may} {unknown_ticket_type, line from 0}
--       {replayed, outcome} {sale_closed} {sold_out, line from 0}
--       {placed, items, total, currency, created ms, deadline ms, second of the sweep to enqueue or 0}
-- An outcome is what the key keeps: "sale_closed", "sold_out|line", "placed|hold|items|total|currency|created|deadline".
local ev, holds, hold, uh, us, idem = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local hold_id, user, fingerprint = ARGV[1], ARGV[2], ARGV[3]
local DAY_MS, RECLAIM = 86400000, 500

local seen = redis.call('GET', idem)
if seen then
  local seen_fingerprint, outcome = string.match(seen, '^([^|]*)|(.*)$')
  if seen_fingerprint ~= fingerprint then return { 'reused' } end
  return { 'replayed', outcome }
end

local m = redis.call('HMGET', ev, 'state', 'server', 'st', 'ss', 'se', 'lim', 'ttl', 'cur', 'sw')
if m[1] ~= 'ready' or m[2] ~= SERVER then return { 'rebuilding' } end
if m[3] == 'draft' then return { 'not_found' } end

local function keep(outcome)
  redis.call('SET', idem, fingerprint .. '|' .. outcome, 'PX', DAY_MS)
end

local now = now_ms()
local lines, prices, quantity, total = {}, {}, 0, 0
for i = 4, #ARGV, 2 do
  local tt, q = ARGV[i], tonumber(ARGV[i + 1])
  local price = redis.call('HGET', ev, 'p:' .. tt)
  if not price then return { 'unknown_ticket_type', (i - 4) / 2 } end
  lines[#lines + 1] = tt .. ':' .. ARGV[i + 1] .. ':' .. price
  quantity = quantity + q
  total = total + q * price
end

if m[3] ~= 'published' or now < tonumber(m[4]) or now >= tonumber(m[5]) then
  keep('sale_closed')
  return { 'sale_closed' }
end

local may = tonumber(m[6])
local function have()
  local sold = redis.call('HGET', us, user)
  return (redis.call('HGET', uh, user) or 0) + (sold and tonumber(string.match(sold, '^(%d+):')) or 0)
end
local function short_line()
  for i = 4, #ARGV, 2 do
    if public(ev, ARGV[i]) < tonumber(ARGV[i + 1]) then return (i - 4) / 2 end
  end
  return nil
end

-- What is overdue is given back before anybody is refused because of it.
local owned, short = have(), short_line()
while (short or owned + quantity > may) and expire(ev, holds, uh, now, now, RECLAIM) > 0 do
  owned, short = have(), short_line()
end
if owned + quantity > may then return { 'limit', owned, may } end
if short then
  keep('sold_out|' .. short)
  return { 'sold_out', short }
end

for i = 4, #ARGV, 2 do
  local _, waited_for = public(ev, ARGV[i])
  redis.call('HINCRBY', ev, 'h:' .. ARGV[i], ARGV[i + 1])
  if waited_for then redis.call('HINCRBY', ev, 'pb:' .. ARGV[i], -ARGV[i + 1]) end
end
redis.call('HINCRBY', uh, user, quantity)
local deadline, items = now + m[7], table.concat(lines, ',')
redis.call('HSET', hold, 'u', user, 's', 'held', 'i', items, 'q', quantity, 't', int(total), 'cur', m[8],
  'c', now, 'x', deadline, 'a', 0)
redis.call('ZADD', holds, deadline, hold_id)
keep(table.concat({ 'placed', hold_id, items, int(total), m[8], int(now), int(deadline) }, '|'))

-- One sweep is planned for the earliest deadline; a plan that is half a minute overdue was lost.
local due, planned, sweep = math.ceil(deadline / 1000), tonumber(m[9] or 0), 0
if planned == 0 or planned > due or planned < now / 1000 - 30 then
  redis.call('HSET', ev, 'sw', due)
  sweep = due
end
return { 'placed', items, int(total), m[8], now, deadline, sweep }

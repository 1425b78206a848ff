-- Places holds of one event one after the other, of each every line of its basket or none. What is kept for the
-- waitlist they do not see.
-- KEYS  inventory, holds, uh, us, then for each hold: the hold, the idempotency key
-- ARGV  for each hold: hold id, user, fingerprint of the request, number of lines, then for each line: ticket type,
--       quantity
-- Says  for each hold:
--       {rebuilding} {not_found} {reused} {limit, have, may} {unknown_ticket_type, line from 0}
--       {replayed, outcome} {sale_closed} {sold_out, line from 0}
--       {placed, items, total, currency, created ms, deadline ms, second of the sweep to enqueue or 0}
-- An outcome is what the key keeps: "sale_closed", "sold_out|line", "placed|hold|items|total|currency|created|deadline".
-- What many holds touch is read once before the first and written once after the last. A rush spends its time here: so
-- texts stay texts, which costs Redis less than numbers, and of each hold no table is made but its answer.
local ev, holds, uh, us = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local DAY_MS, RECLAIM = '86400000', 500

-- Where each hold begins in ARGV; ticket types and users, each once.
local begins, keys, kinds, users, known = {}, {}, {}, {}, {}
local at = 1
for n = 1, (#KEYS - 4) / 2 do
  begins[n], keys[n] = at, KEYS[4 + 2 * n]
  local user, last = ARGV[at + 1], at + 2 + 2 * ARGV[at + 3]
  if not known[user] then
    known[user], users[#users + 1] = true, user
  end
  for line = at + 4, last, 2 do
    local kind = ARGV[line]
    if not known[kind] then
      known[kind], kinds[#kinds + 1] = true, kind
    end
  end
  at = last + 2
end

-- of: the event. Of each ticket type its price, what is free, what is in holds, and its gate, if there is one; of each
-- user what is held and what is sold.
local of, price, free_of, held_of, gate, held, sold
local function read()
  local fields = { 'state', 'server', 'st', 'ss', 'se', 'lim', 'ttl', 'cur', 'sw', 'epoch' }
  for n, kind in ipairs(kinds) do
    local f = 5 + 6 * n
    fields[f], fields[f + 1], fields[f + 2] = 'p:' .. kind, 'c:' .. kind, 's:' .. kind
    fields[f + 3], fields[f + 4], fields[f + 5] = 'r:' .. kind, 'h:' .. kind, 'pb:' .. kind
  end
  of = redis.call('HMGET', ev, unpack(fields))
  price, free_of, held_of, gate, held, sold = {}, {}, {}, {}, {}, {}
  for n, kind in ipairs(kinds) do
    local f = 5 + 6 * n
    if of[f] then
      local h = tonumber(of[f + 4] or 0)
      price[kind], free_of[kind], held_of[kind] = of[f], of[f + 1] - of[f + 2] - of[f + 3] - h, h
      gate[kind] = tonumber(of[f + 5])
    end
  end
  local h, s = redis.call('HMGET', uh, unpack(users)), redis.call('HMGET', us, unpack(users))
  for n, user in ipairs(users) do
    held[user] = tonumber(h[n] or 0)
    sold[user] = s[n] and tonumber(string.match(s[n], '^(%d+):')) or 0
  end
end

local seen, now = redis.call('MGET', unpack(keys)), now_ms()
read()
local ready, decided, overdue = of[1] == 'ready' and of[2] == SERVER, {}, true
local created, deadline = int(now), of[7] and int(now + of[7])

-- Of what is placed and not yet written: whose numbers have changed, and the deadlines.
local touched, deadlines = {}, {}
local function write()
  if #deadlines == 0 then return end
  local counts, owners = {}, {}
  for _, kind in ipairs(kinds) do
    if touched[kind] then
      counts[#counts + 1], counts[#counts + 2] = 'h:' .. kind, held_of[kind]
      if gate[kind] then
        counts[#counts + 1], counts[#counts + 2] = 'pb:' .. kind, gate[kind]
      end
    end
  end
  if touched.sweep then
    counts[#counts + 1], counts[#counts + 2] = 'sw', of[9]
  end
  for _, user in ipairs(users) do
    if touched[user] then
      owners[#owners + 1], owners[#owners + 2] = user, held[user]
    end
  end
  redis.call('HSET', ev, unpack(counts))
  redis.call('HSET', uh, unpack(owners))
  redis.call('ZADD', holds, unpack(deadlines))
  count_holds(ev, of[10], now, #deadlines / 2)
  touched, deadlines = {}, {}
end

-- The same key may come again in this very call.
local function keep(key, fingerprint, outcome)
  decided[key] = fingerprint .. '|' .. outcome
  redis.call('SET', key, decided[key], 'PX', DAY_MS)
end

-- The first line, from 0, that asks for more than the public may take.
local function short_line(first, last)
  for line = first, last, 2 do
    local kind = ARGV[line]
    local public = gate[kind] and math.min(free_of[kind], gate[kind]) or free_of[kind]
    if public < tonumber(ARGV[line + 1]) then return (line - first) / 2 end
  end
  return nil
end

local function place(n)
  local key, at = keys[n], begins[n]
  local id, user, fingerprint = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local first, last = at + 4, at + 2 + 2 * ARGV[at + 3]
  local before = decided[key] or seen[n]
  if before then
    local of_request, outcome = string.match(before, '^([^|]*)|(.*)$')
    if of_request ~= fingerprint then return { 'reused' } end
    return { 'replayed', outcome }
  end
  if not ready then return { 'rebuilding' } end
  if of[3] == 'draft' then return { 'not_found' } end

  local items, quantity, total
  for line = first, last, 2 do
    local kind, q = ARGV[line], ARGV[line + 1]
    local each = price[kind]
    if not each then return { 'unknown_ticket_type', (line - first) / 2 } end
    local item = kind .. ':' .. q .. ':' .. each
    if items then
      items, quantity, total = items .. ',' .. item, quantity + q, total + q * each
    else
      items, quantity, total = item, tonumber(q), q * each
    end
  end
  if of[3] ~= 'published' or now < tonumber(of[4]) or now >= tonumber(of[5]) then
    keep(key, fingerprint, 'sale_closed')
    return { 'sale_closed' }
  end

  -- What is overdue is given back before anybody is refused because of it.
  local may = tonumber(of[6])
  local short, over = short_line(first, last), held[user] + sold[user] + quantity > may
  while (short or over) and overdue do
    write()
    overdue = expire(ev, holds, uh, now, now, RECLAIM) > 0
    read()
    short, over = short_line(first, last), held[user] + sold[user] + quantity > may
  end
  if over then return { 'limit', held[user] + sold[user], may } end
  if short then
    keep(key, fingerprint, 'sold_out|' .. short)
    return { 'sold_out', short }
  end

  for line = first, last, 2 do
    local kind, q = ARGV[line], ARGV[line + 1]
    free_of[kind], held_of[kind], touched[kind] = free_of[kind] - q, held_of[kind] + q, true
    if gate[kind] then gate[kind] = gate[kind] - q end
  end
  held[user], touched[user] = held[user] + quantity, true
  deadlines[#deadlines + 1], deadlines[#deadlines + 2] = deadline, id
  local sum, currency = int(total), of[8]
  redis.call('HSET', KEYS[3 + 2 * n], 'u', user, 's', 'held', 'i', items, 'q', int(quantity), 't', sum,
    'cur', currency, 'c', created, 'x', deadline, 'a', '0')
  keep(key, fingerprint,
    'placed|' .. id .. '|' .. items .. '|' .. sum .. '|' .. currency .. '|' .. created .. '|' .. deadline)

  -- One sweep is planned for the earliest deadline; a plan that is half a minute overdue was lost.
  local due, planned, sweep = math.ceil(deadline / 1000), tonumber(of[9] or 0), 0
  if planned == 0 or planned > due or planned < now / 1000 - 30 then
    of[9], touched.sweep, sweep = due, true, due
  end
  return { 'placed', items, sum, currency, created, deadline, sweep }
end

local says = {}
for n = 1, #keys do
  says[n] = place(n)
end
write()
return says

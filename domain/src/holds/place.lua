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
-- It reads everything first, decides, then writes: what many of them touch is read and written once.
local ev, holds, uh, us = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local DAY_MS, RECLAIM = 86400000, 500

local wants, keys, kinds, users, known = {}, {}, {}, {}, {}
local at = 1
for n = 1, (#KEYS - 4) / 2 do
  local lines, user = {}, ARGV[at + 1]
  wants[n] = { id = ARGV[at], user = user, fingerprint = ARGV[at + 2], hold = KEYS[3 + 2 * n], lines = lines }
  keys[n] = KEYS[4 + 2 * n]
  if not known[user] then
    known[user] = true
    users[#users + 1] = user
  end
  local count = tonumber(ARGV[at + 3])
  at = at + 4
  for line = 1, count do
    local kind = ARGV[at]
    lines[line] = { kind = kind, q = tonumber(ARGV[at + 1]) }
    if not known[kind] then
      known[kind] = true
      kinds[#kinds + 1] = kind
    end
    at = at + 2
  end
end

-- of: the event; of each ticket type its price, what is free, what is in holds, and its gate, if there is one; of each
-- user what is held and what is sold.
local of, seats, held, sold
local function read()
  local fields = { 'state', 'server', 'st', 'ss', 'se', 'lim', 'ttl', 'cur', 'sw', 'epoch' }
  for n, kind in ipairs(kinds) do
    local f = 5 + 6 * n
    fields[f], fields[f + 1], fields[f + 2] = 'p:' .. kind, 'c:' .. kind, 's:' .. kind
    fields[f + 3], fields[f + 4], fields[f + 5] = 'r:' .. kind, 'h:' .. kind, 'pb:' .. kind
  end
  of = redis.call('HMGET', ev, unpack(fields))
  seats, held, sold = {}, {}, {}
  for n, kind in ipairs(kinds) do
    local f = 5 + 6 * n
    if of[f] then
      local h = tonumber(of[f + 4] or 0)
      seats[kind] = { price = of[f], free = of[f + 1] - of[f + 2] - of[f + 3] - h, held = h, gate = tonumber(of[f + 5]) }
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
local ready = of[1] == 'ready' and of[2] == SERVER

-- What is decided and not yet written: outcomes by key, holds, and whose numbers have changed. And whether some holds
-- may be overdue.
local kept, placed, touched, overdue = {}, {}, {}, true
local function write()
  if #placed > 0 then
    local counts, owners, deadlines = {}, {}, {}
    for _, kind in ipairs(kinds) do
      if touched[kind] then
        counts[#counts + 1], counts[#counts + 2] = 'h:' .. kind, seats[kind].held
        if seats[kind].gate then
          counts[#counts + 1], counts[#counts + 2] = 'pb:' .. kind, seats[kind].gate
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
    for n, hold in ipairs(placed) do
      deadlines[2 * n - 1], deadlines[2 * n] = hold.deadline, hold.want.id
    end
    redis.call('HSET', ev, unpack(counts))
    redis.call('HSET', uh, unpack(owners))
    redis.call('ZADD', holds, unpack(deadlines))
    count_holds(ev, of[10], now, #placed)
    for _, hold in ipairs(placed) do
      redis.call('HSET', hold.want.hold, 'u', hold.want.user, 's', 'held', 'i', hold.items, 'q', hold.q, 't', hold.total,
        'cur', of[8], 'c', now, 'x', hold.deadline, 'a', 0)
    end
  end
  for _, one in ipairs(kept) do
    redis.call('SET', one[1], one[2], 'PX', DAY_MS)
  end
  kept, placed, touched = {}, {}, {}
end

-- The first line, from 0, that asks for more than the public may take.
local function short_line(lines)
  for n, line in ipairs(lines) do
    local kind = seats[line.kind]
    local public = kind.gate and math.min(kind.free, kind.gate) or kind.free
    if public < line.q then return n - 1 end
  end
  return nil
end

local function place(n, want)
  if seen[n] then
    local fingerprint, outcome = string.match(seen[n], '^([^|]*)|(.*)$')
    if fingerprint ~= want.fingerprint then return { 'reused' } end
    return { 'replayed', outcome }
  end
  if not ready then return { 'rebuilding' } end
  if of[3] == 'draft' then return { 'not_found' } end

  local items, quantity, total = {}, 0, 0
  for i, line in ipairs(want.lines) do
    local kind = seats[line.kind]
    if not kind then return { 'unknown_ticket_type', i - 1 } end
    items[i] = line.kind .. ':' .. line.q .. ':' .. kind.price
    quantity = quantity + line.q
    total = total + line.q * kind.price
  end

  -- The same key may come again in this very call.
  local function keep(outcome)
    local text = want.fingerprint .. '|' .. outcome
    kept[#kept + 1] = { keys[n], text }
    for later = n + 1, #wants do
      if keys[later] == keys[n] then seen[later] = text end
    end
  end
  if of[3] ~= 'published' or now < tonumber(of[4]) or now >= tonumber(of[5]) then
    keep('sale_closed')
    return { 'sale_closed' }
  end

  -- What is overdue is given back before anybody is refused because of it.
  local may, user = tonumber(of[6]), want.user
  local function refused()
    local short = short_line(want.lines)
    return short or held[user] + sold[user] + quantity > may, short
  end
  local no, short = refused()
  while no and overdue do
    write()
    overdue = expire(ev, holds, uh, now, now, RECLAIM) > 0
    read()
    no, short = refused()
  end
  if held[user] + sold[user] + quantity > may then return { 'limit', held[user] + sold[user], may } end
  if short then
    keep('sold_out|' .. short)
    return { 'sold_out', short }
  end

  for _, line in ipairs(want.lines) do
    local kind = seats[line.kind]
    kind.free, kind.held, touched[line.kind] = kind.free - line.q, kind.held + line.q, true
    if kind.gate then kind.gate = kind.gate - line.q end
  end
  held[user], touched[user] = held[user] + quantity, true
  local deadline, text, sum = now + of[7], table.concat(items, ','), int(total)
  placed[#placed + 1] = { want = want, items = text, q = quantity, total = sum, deadline = deadline }
  keep(table.concat({ 'placed', want.id, text, sum, of[8], int(now), int(deadline) }, '|'))

  -- One sweep is planned for the earliest deadline; a plan that is half a minute overdue was lost.
  local due, planned, sweep = math.ceil(deadline / 1000), tonumber(of[9] or 0), 0
  if planned == 0 or planned > due or planned < now / 1000 - 30 then
    of[9], touched.sweep, sweep = due, true, due
  end
  return { 'placed', text, sum, of[8], now, deadline, sweep }
end

local says = {}
for n, want in ipairs(wants) do
  says[n] = place(n, want)
end
write()
return says

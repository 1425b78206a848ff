-- Shared by every inventory script; the handle prepends it, after a line `local SERVER = '<run id>'`.
--
-- Keys of one event, all with the hash tag {event_id}:
--   ev:{E}             hash    the inventory
--   ev:{E}:holds       zset    hold id -> deadline (ms): every hold that is `held`
--   ev:{E}:confirming  zset    hold id -> since (ms): every hold that is `confirming`
--   ev:{E}:uh          hash    user -> tickets in holds of these two kinds
--   ev:{E}:us          hash    user -> "<tickets sold>:<version>", a copy of event_buyers
--   ev:{E}:joining     zset    "<ticket type>:<join>" -> since (ms): joins of the waitlist that are being decided
--   ev:{E}:n           hash    "<quarter of an hour since 1970>:<epoch>" -> holds placed, for the figures
--   ev:{E}:h:<hold>    hash    one hold; has a TTL once it is over, never before
--   ev:{E}:i:<u>:<k>   string  what an idempotency key decided
-- Fields of ev:{E}: state (ready|rebuilding), server (run id at install), epoch, sw (second of the planned sweep);
--   of the event, a copy of Postgres: mv version, st status, ss/se sale window (ms), lim, ttl (ms), cur;
--   of each ticket type T, a copy of Postgres: c:T capacity, s:T sold, r:T reserved (for offers of the waitlist, until
--   they are sold or over), w:T tickets waited for, p:T price, v:T version;
--   and Redis's own: h:T seats in holds, o:T those of r that are in holds made out of an offer, j:T joins under way,
--   pb:T what the public may still take while somebody waits.
-- Free = c - s - r - h. The gate: pb:T is there exactly while w > 0 or j > 0. It begins as what was free just then and
-- only falls; so whatever comes free meanwhile, by whichever script and in whichever order, is above it. That is the
-- waitlist's share, free - pb. When nobody waits any more pb goes, and all that is free is the public's.
-- Fields of a hold: u user, s status, i items "T:quantity:price,…", q tickets, t total, cur, c created (ms),
--   x deadline (ms), of 1 if made out of an offer, e ended (ms), a confirms so far, p payment "provider:token", r who waits, cs confirming since (ms).

local KEEP_ENDED_MS = 600000

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Integers beyond 14 digits lose some in `..`.
local function int(n)
  return string.format('%.0f', n)
end

local function is_ready(ev)
  local f = redis.call('HMGET', ev, 'state', 'server')
  return f[1] == 'ready' and f[2] == SERVER
end

-- Adds the seats of a hold to what goes back: field of the inventory -> seats. Those of a hold made out of an offer
-- stay reserved: Postgres, which has them, gives them back.
local function collect_seats(seats, items, offered)
  for tt, q in string.gmatch(items, '([^:,]+):(%d+):') do
    local field = (offered and 'o:' or 'h:') .. tt
    seats[field] = (seats[field] or 0) + q
  end
end

-- Gives back what holds had: field of the inventory -> seats, user -> tickets.
local function give_all_back(ev, uh, seats, tickets)
  for field, q in pairs(seats) do
    redis.call('HINCRBY', ev, field, int(-q))
  end
  for user, q in pairs(tickets) do
    if redis.call('HINCRBY', uh, user, int(-q)) <= 0 then
      redis.call('HDEL', uh, user)
    end
  end
end

local function give_back(ev, uh, user, items, quantity, offered)
  local seats = {}
  collect_seats(seats, items, offered)
  give_all_back(ev, uh, seats, { [user] = quantity })
end

-- Ends a hold for good; it stays readable, and blocks its own token, until nobody can bring that token any more.
local function close(hold, status, now, deadline)
  redis.call('HSET', hold, 's', status, 'e', now)
  redis.call('PEXPIREAT', hold, math.max(now, tonumber(deadline)) + KEEP_ENDED_MS)
end

-- Expires up to `limit` of the holds whose deadline is not after `up_to`. Answers how many.
local function expire(ev, holds, uh, up_to, now, limit)
  local ids = redis.call('ZRANGEBYSCORE', holds, '-inf', up_to, 'LIMIT', 0, limit)
  if not ids[1] then return 0 end
  local seats, tickets = {}, {}
  for _, id in ipairs(ids) do
    local hold = ev .. ':h:' .. id
    local f = redis.call('HMGET', hold, 's', 'u', 'i', 'q', 'x', 'of')
    if f[1] == 'held' then
      collect_seats(seats, f[3], f[6])
      tickets[f[2]] = (tickets[f[2]] or 0) + f[4]
      close(hold, 'expired', now, f[5])
    end
  end
  give_all_back(ev, uh, seats, tickets)
  -- They are the first in line: one search among all holds there are, rather than one for each.
  redis.call('ZREMRANGEBYRANK', holds, 0, #ids - 1)
  return #ids
end

-- What is free, whoever may take it; nil for an unknown ticket type.
local function free(ev, tt)
  local f = redis.call('HMGET', ev, 'c:' .. tt, 's:' .. tt, 'r:' .. tt, 'h:' .. tt)
  if not f[1] then return nil end
  return f[1] - f[2] - f[3] - (f[4] or 0)
end

-- What the public may take, and whether somebody waits.
local function public(ev, tt)
  local f = redis.call('HMGET', ev, 'c:' .. tt, 's:' .. tt, 'r:' .. tt, 'h:' .. tt, 'pb:' .. tt)
  if not f[1] then return nil end
  local all = f[1] - f[2] - f[3] - (f[4] or 0)
  if f[5] then return math.min(all, tonumber(f[5])), true end
  return all, false
end

-- Opens or closes the gate as w and j say; `most` is what the public may have of what is free, if it opens. Of one that
-- is open already the public keeps what is left: were it more than is free, the next seat to come free would be theirs.
local function set_gate(ev, tt, most)
  local f = redis.call('HMGET', ev, 'w:' .. tt, 'j:' .. tt, 'pb:' .. tt)
  if tonumber(f[1] or 0) > 0 or tonumber(f[2] or 0) > 0 then
    local kept = f[3] and math.min(tonumber(f[3]), free(ev, tt)) or most
    redis.call('HSET', ev, 'pb:' .. tt, math.max(0, kept))
  else
    redis.call('HDEL', ev, 'pb:' .. tt)
  end
end

-- Counts holds that are placed, for the figures. The quarter of an hour in which it was is that of a day in every zone.
local function count_holds(ev, epoch, now, placed)
  redis.call('HINCRBY', ev .. ':n', int(math.floor(now / 900000)) .. ':' .. epoch, placed)
end

-- Takes a row of Postgres unless a newer one is here. The same row twice is the same; an older one does nothing.
-- Should the row be the first to say that somebody waits, then what it frees is not the public's any more.
local function apply_seats(ev, tt, capacity, sold, reserved, price, version, waiting)
  local present = redis.call('HGET', ev, 'v:' .. tt)
  if present and tonumber(present) > tonumber(version) then return 0 end
  local before = free(ev, tt) or 0
  redis.call('HSET', ev, 'c:' .. tt, capacity, 's:' .. tt, sold, 'r:' .. tt, reserved, 'p:' .. tt, price,
    'v:' .. tt, version, 'w:' .. tt, waiting)
  redis.call('HSETNX', ev, 'h:' .. tt, 0)
  set_gate(ev, tt, math.min(before, free(ev, tt)))
  return 1
end

-- Ends joins that were under way, each once.
local function end_join(ev, joining, member)
  if redis.call('ZREM', joining, member) == 0 then return end
  local tt = string.match(member, '^([^:]+):')
  if redis.call('HINCRBY', ev, 'j:' .. tt, -1) <= 0 then redis.call('HDEL', ev, 'j:' .. tt) end
  if redis.call('HEXISTS', ev, 'c:' .. tt) == 1 then set_gate(ev, tt, free(ev, tt)) end
end

local function apply_buyer(us, user, sold, version)
  local present = redis.call('HGET', us, user)
  if present and tonumber(string.match(present, ':(%d+)$')) > tonumber(version) then return end
  redis.call('HSET', us, user, sold .. ':' .. version)
end

local function apply_event(ev, version, status, sales_start, sales_end, limit, ttl, currency)
  local present = redis.call('HGET', ev, 'mv')
  if present and tonumber(present) > tonumber(version) then return end
  redis.call('HSET', ev, 'mv', version, 'st', status, 'ss', sales_start, 'se', sales_end, 'lim', limit, 'ttl', ttl, 'cur', currency)
end

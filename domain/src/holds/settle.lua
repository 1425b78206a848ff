-- Ends confirms as Postgres decided them and takes the rows that the decision wrote, all at once: each hold
-- exactly once, by compare-and-set on its status; each row only if it is not older than the one here. A refusal
-- counts only for the confirm that it refused: a later one of the same hold goes on.
-- KEYS  inventory, holds, confirming, uh, us
-- ARGV  number of holds, then for each: id, outcome (confirmed|declined|failed), the confirm that decided it;
--       number of ticket types, then for each: id, capacity, sold, reserved, price, version, waited for;
--       number of buyers, then for each: user, sold, version
-- Says  how many holds changed
local ev, holds, confirming, uh, us = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now, at, changed = now_ms(), 1, 0
local function take()
  at = at + 1
  return ARGV[at - 1]
end

for _ = 1, tonumber(take()) do
  local id, outcome, attempt = take(), take(), take()
  local hold = ev .. ':h:' .. id
  local f = redis.call('HMGET', hold, 'u', 's', 'i', 'q', 'x', 'a', 'of')
  local status = f[2]
  local decided = outcome == 'confirmed' and (status == 'confirming' or status == 'held')
    or status == 'confirming' and f[6] == attempt
  if decided then
    changed = changed + 1
    redis.call('ZREM', confirming, id)
    redis.call('HDEL', hold, 'p', 'r', 'cs')
    if outcome == 'declined' and now < tonumber(f[5]) then
      redis.call('HSET', hold, 's', 'held')
      redis.call('ZADD', holds, f[5], id)
    else
      redis.call('ZREM', holds, id)
      give_back(ev, uh, f[1], f[3], f[4], f[7])
      close(hold, outcome == 'confirmed' and 'confirmed' or 'expired', now, f[5])
    end
  elseif outcome == 'confirmed' and (status == 'expired' or status == 'released') then
    -- Its seats went back already; only what it is called changes.
    redis.call('HSET', hold, 's', 'confirmed')
  end
end

local here = redis.call('HEXISTS', ev, 'state') == 1
for _ = 1, tonumber(take()) do
  local tt, capacity, sold, reserved, price, version, waiting = take(), take(), take(), take(), take(), take(), take()
  if here then apply_seats(ev, tt, capacity, sold, reserved, price, version, waiting) end
end
for _ = 1, tonumber(take()) do
  local user, sold, version = take(), take(), take()
  if here then apply_buyer(us, user, sold, version) end
end
return changed

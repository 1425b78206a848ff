-- Sets one ticket type's count of held seats to a recount of the holds, in one step.
-- KEYS  inventory, holds, confirming
-- ARGV  ticket type
-- Says  the count before
local ev, tt = KEYS[1], ARGV[1]
local count = 0
for k = 2, 3 do
  for _, id in ipairs(redis.call('ZRANGE', KEYS[k], 0, -1)) do
    local h = redis.call('HMGET', ev .. ':h:' .. id, 'i', 'of')
    local items = h[2] and '' or h[1] or ''
    for t, q in string.gmatch(items, '([^:,]+):(%d+):') do
      if t == tt then count = count + q end
    end
  end
end
local before = redis.call('HGET', ev, 'h:' .. tt) or '0'
redis.call('HSET', ev, 'h:' .. tt, count)
return tonumber(before)

-- Recounts one event's inventory against its own holds.
-- KEYS  inventory, holds, confirming
-- ARGV  the most holds to count
-- Says  {rebuilding} or {ready, 1 if every hold was counted or 0, then for each ticket type:
--       id, capacity, sold, reserved, held, version, waited for, held by recount}
local ev = KEYS[1]
if not is_ready(ev) then return { 'rebuilding' } end
local counts, all = {}, 1
if redis.call('ZCARD', KEYS[2]) + redis.call('ZCARD', KEYS[3]) > tonumber(ARGV[1]) then
  all = 0
else
  for k = 2, 3 do
    for _, id in ipairs(redis.call('ZRANGE', KEYS[k], 0, -1)) do
      local h = redis.call('HMGET', ev .. ':h:' .. id, 'i', 'of')
      local items = h[2] and '' or h[1] or ''
      for tt, q in string.gmatch(items, '([^:,]+):(%d+):') do counts[tt] = (counts[tt] or 0) + q end
    end
  end
end
local reply, fields = { 'ready', all }, redis.call('HGETALL', ev)
for i = 1, #fields, 2 do
  local tt = string.match(fields[i], '^c:(.*)$')
  if tt then
    local f = redis.call('HMGET', ev, 's:' .. tt, 'r:' .. tt, 'h:' .. tt, 'v:' .. tt, 'w:' .. tt)
    for _, v in ipairs({ tt, fields[i + 1], f[1], f[2], f[3], f[4], f[5] or '0', tostring(counts[tt] or 0) }) do
      reply[#reply + 1] = v
    end
  end
end
return reply

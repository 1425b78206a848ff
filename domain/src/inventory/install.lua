-- Takes what Postgres holds of an event, and with an epoch ends the rebuild that has it.
-- KEYS  inventory, holds, confirming, uh, joining
-- ARGV  epoch (0: only take the rows, if there is an inventory), 1 to overwrite newer rows or 0,
--       version, status, sale start ms, sale end ms, limit, ttl ms, currency,
--       then for each ticket type: id, capacity, sold, reserved, price, version, waited for
-- Says  {missing} {superseded} {installed}
local ev, holds, confirming, uh, joining = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local f = redis.call('HMGET', ev, 'state', 'epoch', 'fresh', 'server')
local epoch, force = tonumber(ARGV[1]), ARGV[2] == '1'
if epoch == 0 then
  if f[1] ~= 'ready' or f[4] ~= SERVER then return { 'missing' } end
else
  if f[1] ~= 'rebuilding' or tonumber(f[2]) ~= epoch then return { 'superseded' } end
end
if force then redis.call('HDEL', ev, 'mv') end
apply_event(ev, ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9])
local known = {}
for i = 10, #ARGV, 7 do
  local tt = ARGV[i]
  known[tt] = true
  if force then redis.call('HDEL', ev, 'v:' .. tt) end
  apply_seats(ev, tt, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
end
if epoch == 0 then return { 'installed' } end

-- An inventory that was missing counts its holds anew, from those that are left. What the public may have while
-- somebody waits is lost with it: all that is free is the waitlist's then.
if f[3] == '1' then
  for tt in pairs(known) do redis.call('HSET', ev, 'h:' .. tt, 0, 'o:' .. tt, 0) end
  redis.call('DEL', uh, joining)
  for _, key in ipairs({ holds, confirming }) do
    for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      local h = redis.call('HMGET', ev .. ':h:' .. id, 'u', 'i', 'q', 's', 'of')
      if h[4] == 'held' or h[4] == 'confirming' then
        for tt, q in string.gmatch(h[2], '([^:,]+):(%d+):') do
          redis.call('HINCRBY', ev, (h[5] and 'o:' or 'h:') .. tt, q)
        end
        redis.call('HINCRBY', uh, h[1], h[3])
      else
        redis.call('ZREM', key, id)
      end
    end
  end
end
redis.call('HDEL', ev, 'fresh', 'sw')
redis.call('HSET', ev, 'state', 'ready', 'server', SERVER)
return { 'installed' }

-- Moves a hold from `held` to `confirming`, from where only the decision of its booking takes it; an expiry that
-- comes later finds nothing. A hold that Redis lost is taken again from its token, if the seats are free; those of an
-- offer are reserved for it.
-- KEYS  inventory, holds, confirming, the hold, uh
-- ARGV  hold id, user, payment ("" for none), who waits, 1 with a token, 2 with money that came late, or 0,
--       and of the token or the money: items, total, currency, created ms, deadline ms, tickets,
--       1 if made out of an offer or 0
-- Says  {not_found} {rebuilding} {expired} {payment_required} {sold_out} {sale_closed}
--       {started, confirms so far} {running, confirms so far} {confirmed}
local ev, holds, confirming, hold, uh = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local hold_id, user, payment, waiting = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local f = redis.call('HMGET', hold, 'u', 's', 'i', 'q', 't', 'x', 'a', 'r', 'of')
local now = now_ms()

-- Money that was set aside for this very hold: what has ended is taken anew, if the seats are the public's. If they
-- are not, it stays what it was.
local late = ARGV[5] == '2'
if late and f[1] == user and (f[2] == 'expired' or f[2] == 'released') then f = {} end
if not f[1] then
  if ARGV[5] == '0' then return { 'not_found' } end
  if now >= tonumber(ARGV[10]) and not late then return { 'expired' } end
  if not is_ready(ev) then return { 'rebuilding' } end
  if redis.call('HGET', ev, 'st') ~= 'published' then return { 'sale_closed' } end
  if ARGV[7] ~= '0' and payment == '' then return { 'payment_required' } end
  local function short()
    for tt, q in string.gmatch(ARGV[6], '([^:,]+):(%d+):') do
      local there = late and public(ev, tt) or free(ev, tt)
      if (there or 0) < tonumber(q) then return true end
    end
    return false
  end
  local offered = ARGV[12] == '1'
  while not offered and short() do
    if expire(ev, holds, uh, now, now, 500) == 0 then return { 'sold_out' } end
  end
  for tt, q in string.gmatch(ARGV[6], '([^:,]+):(%d+):') do
    local _, waited_for = public(ev, tt)
    redis.call('HINCRBY', ev, (offered and 'o:' or 'h:') .. tt, q)
    if late and not offered and waited_for then redis.call('HINCRBY', ev, 'pb:' .. tt, -q) end
    set_gate(ev, tt, 0)
  end
  redis.call('HINCRBY', uh, user, ARGV[11])
  -- How often it was confirmed before is lost too. Milliseconds of its life are more than that, so that this confirm
  -- is taken for none of those.
  local before = now - ARGV[9]
  redis.call('DEL', hold)
  redis.call('HSET', hold, 'u', user, 's', 'held', 'i', ARGV[6], 'q', ARGV[11], 't', ARGV[7], 'cur', ARGV[8],
    'c', ARGV[9], 'x', ARGV[10], 'a', before)
  if offered then redis.call('HSET', hold, 'of', 1) end
  f = { user, 'held', ARGV[6], ARGV[11], ARGV[7], ARGV[10], before, false, offered and '1' }
end

if f[1] ~= user then return { 'not_found' } end
if f[2] == 'confirmed' then return { 'confirmed' } end
if f[2] == 'confirming' then
  -- At most eight wait at once; the others ask by themselves.
  local waiters = f[8] or ''
  local _, n = string.gsub(waiters, ',', ',')
  if waiting ~= '' and n < 7 and not string.find(waiters, waiting, 1, true) then
    redis.call('HSET', hold, 'r', waiters == '' and waiting or waiters .. ',' .. waiting)
  end
  return { 'running', f[7] }
end
if f[2] ~= 'held' then return { 'expired' } end
if now >= tonumber(f[6]) and not late then
  give_back(ev, uh, f[1], f[3], f[4], f[9])
  redis.call('ZREM', holds, hold_id)
  close(hold, 'expired', now, f[6])
  return { 'expired' }
end
if f[5] ~= '0' and payment == '' then return { 'payment_required' } end

local attempt = redis.call('HINCRBY', hold, 'a', 1)
redis.call('HSET', hold, 's', 'confirming', 'p', payment, 'r', waiting, 'cs', now)
redis.call('ZREM', holds, hold_id)
redis.call('ZADD', confirming, now, hold_id)
return { 'started', attempt }

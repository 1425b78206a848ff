-- Settles what a worker has finished and hands it more to do.
-- KEYS: active, suspects, in flight (this worker's), data, due, dead, workers, paused, worker (its description),
--   retrying, tally (followed by a time slot)
-- ARGV: worker, meta prefix, how many wanted, audit (1: list what is in flight), most to promote,
--   then for each finished job: id, start, outcome (done, retry, dead, release), delay in ms, error
-- Answers {registered, now in ms, {{id, envelope, start, attempt, at, crashes} …}, {ids in flight}}. Crashes are the deaths
-- in a row of workers that ran the job: an attempt that lives to say that it failed ends the row.
local active, suspects, inflight, data, due, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local prefix, wanted = ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%.0f', now)

-- What ran and waited in these ten seconds, by powers of the fourth root of two: see tally.rs.
local tally = {}
local function count(what, ms)
  local field = what
  if ms then
    field = what .. math.min(math.ceil(4 * math.log(math.max(ms, 0) + 1) / math.log(2)), 120)
  end
  tally[field] = (tally[field] or 0) + 1
end

-- Keeps the last ten failures of a job.
local function note_failure(meta, error)
  local m = redis.call('HMGET', meta, 'errors', 'starts', 'excused')
  local whole, errors = pcall(cjson.decode, m[1] or '[]')
  errors = whole and errors or {}
  errors[#errors + 1] = { at = now, attempt = (tonumber(m[2]) or 0) - (tonumber(m[3]) or 0), error = error }
  if #errors > 10 then
    table.remove(errors, 1)
  end
  redis.call('HSET', meta, 'errors', cjson.encode(errors))
end

local finished = {}
for i = 6, #ARGV, 5 do
  finished[#finished + 1] = ARGV[i]
end
local held = finished[1] and redis.call('SMISMEMBER', inflight, unpack(finished))
-- What the many that are done leave behind is removed all at once.
local settled, over, metas, released = {}, {}, {}, {}
for n, id in ipairs(finished) do
  local i, meta = 1 + 5 * n, prefix .. id
  local start, outcome = ARGV[i + 1], ARGV[i + 2]
  -- Somebody else's by now, or this worker's again under a later start: then this outcome is out of date.
  local m = held[n] == 1 and not settled[id] and redis.call('HMGET', meta, 'starts', 'started')
  if m and (start == '' or m[1] == start) then
    settled[id], settled[#settled + 1] = true, id
    if outcome ~= 'release' then
      count('r', now - (tonumber(m[2]) or now))
      count(outcome)
    end
    if outcome == 'retry' or outcome == 'dead' then
      note_failure(meta, ARGV[i + 4])
    end
    if outcome == 'done' then
      over[#over + 1], metas[#metas + 1] = id, meta
    elseif outcome == 'retry' then
      local at = now + ARGV[i + 3]
      redis.call('HSET', meta, 'status', 'Scheduled', 'at', at, 'error', ARGV[i + 4], 'crashes', 0)
      redis.call('ZADD', due, at, id)
      redis.call('SADD', KEYS[10], id)
    elseif outcome == 'dead' then
      redis.call('HSET', meta, 'status', 'Dead', 'at', now, 'error', ARGV[i + 4])
      redis.call('ZADD', dead, now, id)
    else
      redis.call('HSET', meta, 'status', 'Pending')
      redis.call('HINCRBY', meta, 'excused', 1)
      released[#released + 1] = id
    end
  end
end
if settled[1] then
  redis.call('SREM', inflight, unpack(settled))
end
if over[1] then
  redis.call('HDEL', data, unpack(over))
  redis.call('DEL', unpack(metas))
end
if released[1] then
  redis.call('LPUSH', active, unpack(released))
end

-- Hands out those of these ids that are there to be run. Answers how many.
local fetched = {}
local function take(ids)
  if not ids[1] then return 0 end
  local envelopes, taken = redis.call('HMGET', data, unpack(ids)), {}
  for n, id in ipairs(ids) do
    local meta = prefix .. id
    local m = redis.call('HMGET', meta, 'status', 'starts', 'excused', 'at', 'crashes')
    -- A discarded job leaves its id behind, and an id may be listed twice: both are passed over here.
    if envelopes[n] and m[1] == 'Pending' then
      local start, at = (tonumber(m[2]) or 0) + 1, tonumber(m[4]) or now
      redis.call('HSET', meta, 'status', 'Running', 'starts', start, 'started', now_text)
      taken[#taken + 1] = id
      count('w', now - at)
      fetched[#fetched + 1] = { id, envelopes[n], start, start - (tonumber(m[3]) or 0), at, tonumber(m[5]) or 0 }
    end
  end
  if taken[1] then
    redis.call('SADD', inflight, unpack(taken))
  end
  return #taken
end

local registered = redis.call('ZSCORE', KEYS[7], ARGV[1]) and 1 or 0
if wanted > 0 and registered == 1 and redis.call('EXISTS', KEYS[8]) == 0 then
  local ripe = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, ARGV[5])
  for _, id in ipairs(ripe) do
    redis.call('ZREM', due, id)
    redis.call('HSET', prefix .. id, 'status', 'Pending')
    redis.call('RPUSH', active, id)
  end
  if #ripe > 0 and redis.call('EXISTS', KEYS[10]) == 1 then
    redis.call('SREM', KEYS[10], unpack(ripe))
  end
  local alone = redis.call('HGET', KEYS[9], 'alone')
  if alone and redis.call('SISMEMBER', inflight, alone) == 0 then
    redis.call('HDEL', KEYS[9], 'alone')
    alone = false
  end
  if alone then
    -- It may kill this process; nothing else is to die with it.
  elseif redis.call('LLEN', suspects) > 0 then
    if redis.call('SCARD', inflight) == 0 then
      local id = redis.call('LPOP', suspects)
      if take({ id }) > 0 then
        redis.call('HSET', KEYS[9], 'alone', id)
      end
    end
  else
    take(redis.call('LPOP', active, wanted) or {})
  end
end

if next(tally) then
  local slot = KEYS[11] .. math.floor(now / 10000)
  for field, times in pairs(tally) do
    redis.call('HINCRBY', slot, field, times)
  end
  redis.call('EXPIRE', slot, 400)
end

return { registered, now, fetched, ARGV[4] == '1' and redis.call('SMEMBERS', inflight) or {} }

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

for i = 6, #ARGV, 5 do
  local id, start, outcome = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local meta = prefix .. id
  -- Somebody else's by now, or this worker's again under a later start: then this outcome is out of date.
  local ours = redis.call('SISMEMBER', inflight, id) == 1
  if ours and start ~= '' then
    ours = redis.call('HGET', meta, 'starts') == start
  end
  if ours then
    redis.call('SREM', inflight, id)
    if outcome ~= 'release' then
      count('r', now - (tonumber(redis.call('HGET', meta, 'started')) or now))
      count(outcome)
    end
    if outcome == 'retry' or outcome == 'dead' then
      note_failure(meta, ARGV[i + 4])
    end
    if outcome == 'done' then
      redis.call('HDEL', data, id)
      redis.call('DEL', meta)
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
      redis.call('LPUSH', active, id)
    end
  end
end

local fetched = {}
local function take(id)
  local envelope = redis.call('HGET', data, id)
  local meta = redis.call('HMGET', prefix .. id, 'status', 'starts', 'excused', 'at', 'crashes')
  -- A discarded job leaves its id behind, and an id may be listed twice: both are passed over here.
  if envelope and meta[1] == 'Pending' then
    local start = (tonumber(meta[2]) or 0) + 1
    redis.call('HSET', prefix .. id, 'status', 'Running', 'starts', start, 'started', now)
    redis.call('SADD', inflight, id)
    count('w', now - (tonumber(meta[4]) or now))
    fetched[#fetched + 1] = { id, envelope, start, start - (tonumber(meta[3]) or 0), tonumber(meta[4]) or now,
      tonumber(meta[5]) or 0 }
    return true
  end
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
      if take(id) then
        redis.call('HSET', KEYS[9], 'alone', id)
      end
    end
  else
    for _, id in ipairs(redis.call('LPOP', active, wanted) or {}) do
      take(id)
    end
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

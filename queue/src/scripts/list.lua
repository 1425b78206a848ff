-- Lists jobs of one status.
-- KEYS: active, suspects, due, dead, workers, data
-- ARGV: status, limit, meta prefix, in-flight prefix, how many to pass over
-- Answers {{id, envelope, status, starts, excused, crashes, at, error, errors, started at in ms} …}.
local status, limit, passed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5])
local last = passed + limit - 1
local ids, seen = {}, 0
local function add(found)
  for _, id in ipairs(found) do
    seen = seen + 1
    if seen > passed and #ids < limit then
      ids[#ids + 1] = id
    end
  end
end
if status == 'pending' then
  local suspects = redis.call('LLEN', KEYS[2])
  ids = redis.call('LRANGE', KEYS[2], passed, last)
  local from = math.max(passed - suspects, 0)
  if #ids < limit then
    for _, id in ipairs(redis.call('LRANGE', KEYS[1], from, from + limit - #ids - 1)) do
      ids[#ids + 1] = id
    end
  end
elseif status == 'scheduled' then
  ids = redis.call('ZRANGE', KEYS[3], passed, last)
elseif status == 'dead' then
  ids = redis.call('ZREVRANGE', KEYS[4], passed, last)
else
  for _, worker in ipairs(redis.call('ZRANGE', KEYS[5], 0, 999)) do
    if #ids < limit then
      local running = redis.call('SMEMBERS', ARGV[4] .. worker)
      table.sort(running)
      add(running)
    end
  end
end
local jobs = {}
for _, id in ipairs(ids) do
  local envelope = redis.call('HGET', KEYS[6], id)
  if envelope then
    local m = redis.call('HMGET', ARGV[3] .. id, 'status', 'starts', 'excused', 'crashes', 'at', 'error',
      'errors', 'started')
    jobs[#jobs + 1] = { id, envelope, m[1] or '', m[2] or '0', m[3] or '0', m[4] or '0', m[5] or '0', m[6] or '',
      m[7] or '', m[8] or '0' }
  end
end
return jobs

-- Lists jobs of one status.
-- KEYS: active, suspects, due, dead, workers, data
-- ARGV: status, limit, meta prefix, in-flight prefix
-- Answers {{id, envelope, status, starts, excused, crashes, at, error} …}.
local status, limit = ARGV[1], tonumber(ARGV[2])
local ids = {}
local function add(found)
  for _, id in ipairs(found) do
    if #ids < limit then
      ids[#ids + 1] = id
    end
  end
end
if status == 'pending' then
  add(redis.call('LRANGE', KEYS[2], 0, limit - 1))
  add(redis.call('LRANGE', KEYS[1], 0, limit - 1))
elseif status == 'scheduled' then
  add(redis.call('ZRANGE', KEYS[3], 0, limit - 1))
elseif status == 'dead' then
  add(redis.call('ZREVRANGE', KEYS[4], 0, limit - 1))
else
  for _, worker in ipairs(redis.call('ZRANGE', KEYS[5], 0, 999)) do
    if #ids < limit then
      add(redis.call('SRANDMEMBER', ARGV[4] .. worker, limit - #ids))
    end
  end
end
local jobs = {}
for _, id in ipairs(ids) do
  local envelope = redis.call('HGET', KEYS[6], id)
  if envelope then
    local m = redis.call('HMGET', ARGV[3] .. id, 'status', 'starts', 'excused', 'crashes', 'at', 'error')
    jobs[#jobs + 1] = { id, envelope, m[1] or '', m[2] or '0', m[3] or '0', m[4] or '0', m[5] or '0', m[6] or '' }
  end
end
return jobs

-- An operator's hand on one job that does not run.
-- KEYS: active, suspects, due, dead, data, retrying
-- ARGV: what (retry, discard, detail), id, meta prefix
-- Answers {what came of it, envelope}, or the fields of list.lua for detail. What came of it: done, running,
-- waiting (retry: it will run anyway), unknown.
local what, id, meta = ARGV[1], ARGV[2], ARGV[3] .. ARGV[2]
local envelope = redis.call('HGET', KEYS[5], id)
if not envelope then
  return { 'unknown', '' }
end
local m = redis.call('HMGET', meta, 'status', 'starts', 'excused', 'crashes', 'at', 'error', 'errors', 'started')
if what == 'detail' then
  return { id, envelope, m[1] or '', m[2] or '0', m[3] or '0', m[4] or '0', m[5] or '0', m[6] or '', m[7] or '',
    m[8] or '0' }
end
if m[1] == 'Running' then
  return { 'running', envelope }
end
if m[1] == 'Pending' and what == 'retry' then
  return { 'waiting', envelope }
end
redis.call('ZREM', KEYS[3], id)
redis.call('ZREM', KEYS[4], id)
redis.call('SREM', KEYS[6], id)
if what == 'discard' then
  redis.call('LREM', KEYS[1], 0, id)
  redis.call('LREM', KEYS[2], 0, id)
  redis.call('HDEL', KEYS[5], id)
  redis.call('DEL', meta)
else
  -- A fresh count of starts would let an outcome of an earlier start pass for one of a later: excuse them all.
  local time = redis.call('TIME')
  redis.call('HSET', meta, 'status', 'Pending', 'excused', m[2] or 0, 'crashes', 0,
    'at', time[1] * 1000 + math.floor(time[2] / 1000))
  redis.call('RPUSH', KEYS[1], id)
end
return { 'done', envelope }

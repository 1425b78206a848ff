-- Puts jobs where their workers find them, each unless its id is there already.
-- KEYS: active, data, due, dead
-- ARGV: meta prefix, then for each job: id, envelope, time to run in ms ('' for now), outbox id ('' for none)
-- Answers for each job 1 (new), 0 (duplicate), 2 (covered) or 3 (running), the last two for outbox rows only.
-- A dead id stays dead, unless another outbox row than the one it died with asks for it: that is a new cause. A job
-- of another row that has not begun will see what this row is about, too: covered. One that runs may have looked
-- before: running. One of no row becomes this row's.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%.0f', now)
local answers, waiting = {}, {}
for i = 2, #ARGV, 4 do
  local id, envelope, run_at, outbox = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local meta = ARGV[1] .. id
  local new = redis.call('HSETNX', KEYS[2], id, envelope) == 1
  local known = not new and outbox ~= '' and redis.call('HMGET', meta, 'status', 'outbox')
  local answer = 0
  if known and known[2] ~= outbox then
    if known[1] == 'Dead' then
      redis.call('ZREM', KEYS[4], id)
      redis.call('DEL', meta)
      redis.call('HSET', KEYS[2], id, envelope)
      new = true
    elseif known[1] == 'Running' then
      answer = 3
    elseif known[2] and known[2] ~= '' then
      answer = 2
    else
      redis.call('HSET', KEYS[2], id, envelope)
      redis.call('HSET', meta, 'outbox', outbox)
    end
  end
  if new then
    local later = run_at ~= '' and tonumber(run_at) > now
    redis.call('HSET', meta, 'status', later and 'Scheduled' or 'Pending', 'at', later and run_at or now_text,
      'outbox', outbox)
    if later then
      redis.call('ZADD', KEYS[3], run_at, id)
    else
      waiting[#waiting + 1] = id
    end
  end
  answers[#answers + 1] = new and 1 or answer
end
if waiting[1] then
  redis.call('RPUSH', KEYS[1], unpack(waiting))
end
return answers

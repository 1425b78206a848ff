-- Takes a worker off the list, unless it still holds jobs: then it stays, to be found dead.
-- KEYS: workers, in flight (this worker's), worker (its description)
-- ARGV: worker
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[3])
end
return 1

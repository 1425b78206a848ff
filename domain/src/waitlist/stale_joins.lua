-- Finds joins of which nobody has told the end.
-- KEYS  joining
-- ARGV  older than (ms), the most to answer
-- Says  each as "ticket type:join"
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms() - ARGV[1], 'LIMIT', 0, ARGV[2])

-- A daemon says that it lives. Also while memory is full: others must not take it for dead, and the housekeeping that
-- frees memory comes after it.
--
-- KEYS  1 daemons
-- ARGV  1 instance  2 seconds that it counts as alive
-- Reply instances that live.
local wrong = check_types({KEYS[1], 'zset'})
if wrong then return wrong end
local now = tonumber(call('TIME')[1])
call('ZADD', KEYS[1], digits(now + tonumber(ARGV[2])), ARGV[1])
call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. digits(now))
return call('ZRANGE', KEYS[1], 0, -1)

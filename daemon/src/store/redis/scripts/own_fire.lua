-- Takes timers off and changes state, in one step; no entries are involved.
--
-- KEYS  1 lease  2 state  3 timers
-- ARGV  1 owner  2 epoch  3 ttl ms  4 msgpack {key, due, ...}  5 state block (state.lua)
-- Reply 'OK' | 'FENCED' | 'STALE'.
-- Keeps: a timer fires at most once, only while it is set to this time, and together with what it changes.
local LEASE, STATE, TIMERS = KEYS[1], KEYS[2], KEYS[3]
local wrong = check_types({LEASE, 'hash', STATE, 'hash', TIMERS, 'zset'})
if wrong then return wrong end
local lease = call('HMGET', LEASE, 'owner', 'epoch')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then return 'FENCED' end
local fired, block, keys = cmsgpack.unpack(ARGV[4]), cmsgpack.unpack(ARGV[5]), {}
for i = 1, #fired, 2 do
  local score = call('ZSCORE', TIMERS, fired[i])
  if not score or digits(math.floor(tonumber(score))) ~= fired[i + 1] then return 'STALE' end
  keys[#keys + 1] = fired[i]
end
local failed, is_same = state_check(STATE, TIMERS, block)
if failed then return failed end
if not is_same then return 'STALE' end
pieces(keys, function(...) call('ZREM', TIMERS, ...) end)
local now = now_ms()
state_write(STATE, TIMERS, block, now)
call('HSET', LEASE, 'until', digits(now + tonumber(ARGV[3])))
return 'OK'

-- A door: adds events to the source stream in one step, so that their ids have nothing of others between them.
--
-- KEYS  1 source stream  2 ledger  3 seen:0  4 seen:1  5 spool (only with ARGV 5)
-- ARGV  1 '1' = check ids against the window  2 window ms  3 max ids  4 msgpack {events ids | 0, {fields, ...}}
--       5 life of a spool  6 number of the first event in it (both only for events out of a spool)
-- Reply per event: id, or '=' .. id of the entry that holds its event id, or '' when an earlier call has added it.
-- Keeps: an event of a spool is added in the same step in which the spool's position passes it, so it is added once.
local S, LEDGER, SPOOL, life = KEYS[1], KEYS[2], KEYS[5], ARGV[5]
local wrong = check_types({S, 'stream', LEDGER, 'hash', KEYS[3], 'hash', KEYS[4], 'hash'})
  or (life and check_types({SPOOL, 'hash'}))
if wrong then return wrong end
local m = cmsgpack.unpack(ARGV[4])
local events, entries = m[1], m[2]
local reply, n_known = {}, 0
if life then
  -- 'number milliseconds' of the last event that is in, and when that was.
  local at = call('HGET', SPOOL, life)
  local position, first = tonumber(at and string.match(at, '^%d+') or '0'), tonumber(ARGV[6])
  local last, now = first + #entries - 1, now_ms()
  n_known = math.max(0, math.min(position - first + 1, #entries))
  for i = 1, n_known do reply[i] = '' end
  if not at then
    -- A life begins. One that was silent for 30 days has no daemon any more.
    local all = call('HGETALL', SPOOL)
    for i = 1, #all, 2 do
      if now - tonumber(string.match(all[i + 1], '%d+$') or '0') > 2592000000 then call('HDEL', SPOOL, all[i]) end
    end
  end
  if n_known == #entries then return reply end
  call('HSET', SPOOL, life, digits(last) .. ' ' .. digits(now))
end
if ARGV[1] ~= '1' then
  for i = n_known + 1, #entries do reply[i] = call('XADD', S, '*', unpack(entries[i])) end
  return reply
end
local state = call('HMGET', LEDGER, 'seen_gen', 'seen_since')
local generation, since = tonumber(state[1] or '0'), tonumber(state[2] or '0')
local known = call('HMGET', KEYS[3], unpack(events))
local older = call('HMGET', KEYS[4], unpack(events))
local batch, new, n_duplicate = {}, {}, 0
for i = n_known + 1, #entries do
  local event = events[i]
  local id = event ~= '' and (batch[event] or known[i] or older[i])
  if id then
    reply[i] = '=' .. id
    n_duplicate = n_duplicate + 1
  else
    id = call('XADD', S, '*', unpack(entries[i]))
    reply[i] = id
    if event ~= '' then
      batch[event] = id
      new[#new + 1] = event
      new[#new + 1] = id
    end
  end
end
if n_duplicate > 0 then call('HINCRBY', LEDGER, 'door_deduplicated', n_duplicate) end
if #new > 0 then
  local now = now_ms()
  local current = KEYS[3 + generation]
  if now - since > tonumber(ARGV[2]) / 2 or call('HLEN', current) >= tonumber(ARGV[3]) / 2 then
    generation = 1 - generation
    current = KEYS[3 + generation]
    call('UNLINK', current)
    call('HSET', LEDGER, 'seen_gen', generation, 'seen_since', digits(now))
  end
  call('HSET', current, unpack(new))
end
return reply

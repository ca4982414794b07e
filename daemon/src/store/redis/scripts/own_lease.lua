-- The lease of an owned stage: take, ask for, renew, give up.
--
-- KEYS  1 input stream  2 position  3 lease  4 parked  5 settled
-- ARGV  1 'acquire' | 'ask' | 'take' | 'renew' | 'release'  2 owner  3 epoch  4 ttl ms (of the lease; ask, take: of the wish)  5 group
-- Reply acquire: {'leased', epoch, position, lives without progress} | {'held', owner, ms left}; ask, take: {'ok'} | {'no', holder};
--       renew: {'ok', position | '', parked, who asks for it | '', due id...} | {'lost'}; release: {'ok'} | {'lost'}
-- Keeps: the epoch grows with every change of hands, so that a commit of an earlier owner is refused. The first owner
-- begins where the group stands; what was delivered and is not finished is parked. A stage that was given up because
-- somebody asked is kept for who asked for a second; one that a person gave to a holder (`pin`) is not asked for by others
-- that only want to balance. A lease that was not given up tells of an owner that died: `lives` counts those that began at
-- the same position and did not get past it.
local S, POSITION, LEASE, PARKED, SETTLED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local mode, owner, epoch, group = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local wrong = check_types({S, 'stream', POSITION, 'string', LEASE, 'hash', PARKED, 'zset', SETTLED, 'hash'})
if wrong then return wrong end
local lease, now = call('HMGET', LEASE, 'owner', 'epoch', 'until', 'next', 'next_until', 'pin', 'began', 'lives'), now_ms()
local is_ours = lease[1] == owner and lease[2] == epoch
local is_held = lease[1] and lease[1] ~= ''
local asks = lease[4] and lease[4] ~= owner and tonumber(lease[5] or '0') > now and lease[4] or nil
local KEPT_MS = 1000

if mode == 'acquire' then
  local left = tonumber(lease[3] or '0') - now
  if is_held and lease[1] ~= owner and left > 0 then return {'held', lease[1], left} end
  if not is_held and asks then return {'held', asks, tonumber(lease[5]) - now} end
  local found = group_of(S, group)
  if not found then return redis.error_reply('NOGROUP no group "' .. group .. '" on stream "' .. S .. '"') end
  local position = call('GET', POSITION)
  if not position then
    position = found['last-delivered-id']
    local last = as_map(call('XINFO', 'STREAM', S))['last-generated-id']
    if below(last, position) then position = last end
    local at = '-'
    while true do
      local rows = call('XPENDING', S, group, at, '+', 500)
      for i = 1, #rows do
        -- Above the position an entry is read again; what somebody took of it is put right by the commit.
        if not below(position, rows[i][1]) then
          call('ZADD', PARKED, 0, rows[i][1])
          -- One whose payload is gone leaves the pending list here, and is booked as lost when it is fetched.
          call('XCLAIM', S, group, 'parked', 0, rows[i][1], 'JUSTID')
        end
      end
      if #rows < 500 then break end
      at = '(' .. rows[#rows][1]
    end
    call('SET', POSITION, position)
    call('DEL', SETTLED)
    if position ~= '0-0' then call('HSET', SETTLED, 'low', after(position) or position) end
  end
  local lives = 0
  if is_held then lives = lease[7] == position and tonumber(lease[8] or '0') + 1 or 1 end
  local new = call('HINCRBY', LEASE, 'epoch', 1)
  call('HSET', LEASE, 'owner', owner, 'until', digits(now + tonumber(ARGV[4])), 'began', position, 'lives', digits(lives))
  if lease[4] == owner then call('HDEL', LEASE, 'next', 'next_until') end
  return {'leased', new, position, lives}
end
if mode == 'ask' or mode == 'take' then
  local is_other = is_held and lease[1] ~= owner and tonumber(lease[3] or '0') > now
  if mode == 'take' then call('HSET', LEASE, 'pin', owner)
  elseif is_other and lease[6] == lease[1] then return {'no', lease[1]} end
  if is_other then call('HSET', LEASE, 'next', owner, 'next_until', digits(now + tonumber(ARGV[4]))) end
  return {'ok'}
end
if not is_ours then return {'lost'} end
if mode == 'release' then
  call('HSET', LEASE, 'owner', '', 'until', '0')
  if asks then call('HSET', LEASE, 'next_until', digits(now + KEPT_MS)) end
  -- A name that holds nothing is not left behind.
  local rows = pcall_('XPENDING', S, group, '-', '+', 1, 'parked')
  if not rows.err and #rows == 0 then call('XGROUP', 'DELCONSUMER', S, group, 'parked') end
  return {'ok'}
end
call('HSET', LEASE, 'until', digits(now + tonumber(ARGV[4])))
local reply = {'ok', call('GET', POSITION) or '', call('ZCARD', PARKED), asks or ''}
for _, id in ipairs(call('ZRANGEBYSCORE', PARKED, '-inf', digits(now), 'LIMIT', 0, 100)) do reply[#reply + 1] = id end
return reply

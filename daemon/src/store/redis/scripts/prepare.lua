-- Makes ready: owner, groups, ledger. Idempotent.
--
-- KEYS  1 source stream  2 owner  3 ledger  4 counts  5 dead
--       6.. per stage: input stream, settled, position, lease, parked, retry
-- ARGV  1 pipeline  2.. per stage: name, group, '1' when it reads the source, '1' when it is owned
-- Reply list of {what, stage, detail}.
-- Keeps: a group is created where everything before is settled, never at `$`; a stream that was deleted and began anew
-- is noticed, what it held is booked as lost, and the ledger goes on. In owned stages the group follows the position, and
-- the pending list holds exactly what is parked.
local S, OWNER, LEDGER = KEYS[1], KEYS[2], KEYS[3]
local mended = {}
local wrong = check_types({S, 'stream', OWNER, 'string', LEDGER, 'hash', KEYS[4], 'hash', KEYS[5], 'stream'})
if wrong then return wrong end
local owner = call('GET', OWNER)
if owner and owner ~= ARGV[1] then
  return redis.error_reply('FOREIGN stream "' .. S .. '" belongs to pipeline "' .. owner .. '"')
end
if not owner then call('SET', OWNER, ARGV[1]) end

local function stream_facts(key)
  if call('EXISTS', key) == 0 then return {added = 0, length = 0, last = '0-0', first = nil, exists = false} end
  local info = as_map(call('XINFO', 'STREAM', key))
  return {added = info['entries-added'], length = info.length, last = info['last-generated-id'],
    first = info['first-entry'] and info['first-entry'][1], exists = true}
end

-- Entries with an id of at least `from`, counted in pages; nil above 200,000.
local function count_from(key, from)
  local total, at = 0, from
  for _ = 1, 200 do
    local page = call('XRANGE', key, at, '+', 'COUNT', 1000)
    total = total + #page
    if #page < 1000 then return total end
    at = '(' .. page[#page][1]
  end
  return nil
end

-- What is pending is what is parked: entries that a foreign reader took through the group are read by their owner anyway.
local function mend_parked(stream, group, parked, stage)
  local summary = call('XPENDING', stream, group)
  local holders = summary[4] or {}
  local is_right = summary[1] == call('ZCARD', parked) and (summary[1] == 0 or (#holders == 1 and holders[1][1] == 'parked'))
  if is_right then return end
  local n_foreign, n_again, at, held = 0, 0, '-', {}
  while true do
    local rows = call('XPENDING', stream, group, at, '+', 500)
    for r = 1, #rows do
      local id = rows[r][1]
      if not call('ZSCORE', parked, id) then n_foreign = n_foreign + call('XACK', stream, group, id)
      elseif rows[r][2] == 'parked' then held[id] = true end
    end
    if #rows < 500 then break end
    at = '(' .. rows[#rows][1]
  end
  for _, id in ipairs(call('ZRANGE', parked, 0, -1)) do
    if not held[id] then
      n_again = n_again + #call('XCLAIM', stream, group, 'parked', 0, id, 'FORCE', 'JUSTID')
    end
  end
  if n_foreign + n_again > 0 then
    mended[#mended + 1] = {'parked.mended', stage, 'somebody changed the pending list of group "' .. group .. '": '
      .. digits(n_foreign) .. ' foreign entries taken out of it, ' .. digits(n_again) .. ' parked ones put back'}
  end
end

-- A stage that was owned until now is shared: what was parked is pending, the rest up to the position is settled.
local function share(settled_key, position_key, lease_key, parked)
  local ids = call('ZRANGE', parked, 0, -1)
  table.sort(ids, below)
  if #ids > 0 then
    call('HSET', settled_key, 'low', ids[1])
    for k = 1, #ids do
      local from, to = after(ids[k]), ids[k + 1] and before(ids[k + 1]) or call('GET', position_key)
      if from and to and not below(to, from) then call('HSET', settled_key, from .. ' ' .. to .. ' *', '') end
    end
  end
  call('DEL', position_key, lease_key, parked)
end

local n_stages = (#KEYS - 5) / 6
for i = 1, n_stages do
  local stream, settled_key, position_key, lease_key, parked = KEYS[6 * i], KEYS[6 * i + 1], KEYS[6 * i + 2], KEYS[6 * i + 3], KEYS[6 * i + 4]
  local stage, group, reads_source, is_owned = ARGV[4 * i - 2], ARGV[4 * i - 1], ARGV[4 * i] == '1', ARGV[4 * i + 1] == '1'
  wrong = check_types({stream, 'stream', settled_key, 'hash', position_key, 'string', lease_key, 'hash', parked, 'zset'})
  if wrong then return wrong end
  if not is_owned and call('EXISTS', position_key) == 1 then
    local lease = call('HMGET', lease_key, 'owner', 'until')
    if lease[1] and lease[1] ~= '' and tonumber(lease[2] or '0') > now_ms() then
      return redis.error_reply('ERR stage "' .. stage .. '" is still owned by ' .. lease[1] .. '; stop that daemon before the delivery is changed')
    end
    share(settled_key, position_key, lease_key, parked)
    mended[#mended + 1] = {'stage.shared', stage, 'the stage was owned until now'}
  end
  local facts = stream_facts(stream)
  local base = call('HGET', LEDGER, 'base:' .. stage)
  local low = call('HGET', settled_key, 'low')
  local found = group_of(stream, group)
  local emitted = tonumber(call('HGET', LEDGER, 'emitted:' .. stream) or '0')
  local mark = tonumber(call('HGET', LEDGER, 'added:' .. stage) or '0')

  if base then
    -- Known before: did the stream begin anew? It may have grown again already. The old one held `low` or something below
    -- it, so that either it still does or something was taken out of it.
    -- What our commits emitted and what was ever added grow together: where fewer were added than before, others are gone.
    local ahead = not reads_source and call('HGET', LEDGER, 'ahead:' .. stage)
    local anew = facts.added < mark or (ahead and facts.added - emitted < tonumber(ahead))
      or (low and below(facts.last, before(low)))
      or (low and facts.added == facts.length and (not facts.first or below(low, facts.first)))
    if anew then
      local settled = settled_of(LEDGER, stage)
      local accepted
      accepted = (reads_source and mark or emitted) - base_of(LEDGER, stage)
      if accepted < settled then accepted = settled end
      local lost = accepted - settled
      if not reads_source then
        -- Entries emitted into the new stream are still there.
        lost = lost - facts.length
        if lost < 0 then lost = 0 end
      else
        call('HSET', LEDGER, 'base:' .. stage, digits(-accepted - tonumber(call('HGET', LEDGER, 'readded:' .. stage) or '0')))
      end
      if lost > 0 then call('HINCRBY', LEDGER, stage .. ':lost', lost) end
      call('DEL', settled_key)
      if is_owned then call('DEL', position_key, parked, KEYS[6 * i + 5]) end
      call('HSET', LEDGER, 'added:' .. stage, digits(facts.added))
      low = nil
      mended[#mended + 1] = {'stream.recreated', stage,
        'stream "' .. stream .. '" was deleted; ' .. digits(lost) .. ' entries that were not finished are booked as lost'}
    end
  end

  if not found then
    local at, read = '0-0', facts.added - facts.length
    local what = 'group.created'
    if low then
      at = before(low)
      what = 'group.recreated'
      local rest = facts.exists and count_from(stream, low) or 0
      read = rest and facts.added - rest or nil
    end
    if read then call('XGROUP', 'CREATE', stream, group, at, 'MKSTREAM', 'ENTRIESREAD', digits(read))
    else call('XGROUP', 'CREATE', stream, group, at, 'MKSTREAM') end
    mended[#mended + 1] = {what, stage, 'group "' .. group .. '" of stream "' .. stream .. '" created at ' .. at}
    found = {['last-delivered-id'] = at, pending = 0}
    facts = stream_facts(stream)
    if not base then
      -- Entries that are still there count as accepted from now on.
      local from = reads_source and facts.added - facts.length or emitted - facts.length
      call('HSET', LEDGER, 'base:' .. stage, digits(from), 'added:' .. stage, digits(facts.added))
    end
  elseif not base then
    -- A group that was there before us: what it has not finished is accepted.
    local lag = found.lag
    if not lag then lag = count_from(stream, '(' .. found['last-delivered-id']) or facts.length end
    local open = found.pending + lag
    local from = reads_source and facts.added - open or emitted - open
    call('HSET', LEDGER, 'base:' .. stage, digits(from), 'added:' .. stage, digits(facts.added))
    mended[#mended + 1] = {'group.adopted', stage, 'group "' .. group .. '" was there before; its ' .. digits(open) .. ' open entries count as accepted'}
  else
    -- A server that loaded its append-only file has forgotten how many entries the group has read, and tells a wrong lag
    -- for ever: too many, by all that was read since the figure was last set. The ledger knows how many must be left;
    -- where they differ, they are counted. Where they are too many to be counted the wrong figure is taken away; the
    -- ledger's is then told as an estimate until the janitor can count.
    -- What was trimmed unread is the janitor's: it books the loss.
    local came = reads_source and facts.added or emitted
    local left = came - base_of(LEDGER, stage) - settled_of(LEDGER, stage) - found.pending
    local whole = facts.first and not below(found['last-delivered-id'], facts.first)
    if whole and found.lag and found.lag ~= left then
      local actual = 0
      if found['last-delivered-id'] ~= facts.last then
        actual = left <= 200000 and count_from(stream, '(' .. found['last-delivered-id']) or nil
      end
      if not actual and found.lag > left then
        call('XGROUP', 'SETID', stream, group, found['last-delivered-id'])
      elseif actual and actual ~= found.lag then
        call('XGROUP', 'SETID', stream, group, found['last-delivered-id'], 'ENTRIESREAD', digits(facts.added - actual))
      end
    end
  end
  local position = is_owned and call('GET', position_key)
  if position and below(position, found['last-delivered-id']) then
    local rest = count_from(stream, '(' .. position)
    if rest then call('XGROUP', 'SETID', stream, group, position, 'ENTRIESREAD', digits(facts.added - rest))
    else call('XGROUP', 'SETID', stream, group, position) end
    mended[#mended + 1] = {'group.ahead', stage, 'group "' .. group .. '" had been moved ahead to ' .. found['last-delivered-id']
      .. ' by a foreign reader; set back to ' .. position}
  end
  if position then mend_parked(stream, group, parked, stage) end
  if base and found and low and below(found['last-delivered-id'], before(low)) then
    local rest = count_from(stream, low)
    if rest then call('XGROUP', 'SETID', stream, group, before(low), 'ENTRIESREAD', digits(facts.added - rest))
    else call('XGROUP', 'SETID', stream, group, before(low)) end
    mended[#mended + 1] = {'group.rewound', stage, 'group "' .. group .. '" had been set back to ' .. found['last-delivered-id'] .. '; moved on to ' .. before(low)}
  end
  if not reads_source then
    local ahead = digits(facts.added - emitted)
    if call('HGET', LEDGER, 'ahead:' .. stage) ~= ahead then call('HSET', LEDGER, 'ahead:' .. stage, ahead) end
  end
end
return mended

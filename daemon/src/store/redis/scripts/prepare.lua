-- Makes ready: owner, groups, ledger. Idempotent.
--
-- KEYS  1 source stream  2 owner  3 ledger  4 counts  5 dead  6.. per stage: input stream, settled
-- ARGV  1 pipeline  2.. per stage: name, group, '1' when it reads the source
-- Reply list of {what, stage, detail}.
-- Keeps: a group is created where everything before is settled, never at `$`; a stream that was deleted and began anew
-- is noticed, what it held is booked as lost, and the ledger goes on.
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

local n_stages = (#KEYS - 5) / 2
for i = 1, n_stages do
  local stream, settled_key = KEYS[4 + 2 * i], KEYS[5 + 2 * i]
  local stage, group, reads_source = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1] == '1'
  wrong = check_types({stream, 'stream', settled_key, 'hash'})
  if wrong then return wrong end
  local facts = stream_facts(stream)
  local base = call('HGET', LEDGER, 'base:' .. stage)
  local low = call('HGET', settled_key, 'low')
  local found = group_of(stream, group)
  local emitted = tonumber(call('HGET', LEDGER, 'emitted:' .. stream) or '0')
  local mark = tonumber(call('HGET', LEDGER, 'added:' .. stage) or '0')

  if base then
    -- Known before: did the stream begin anew? It may have grown again already. The old one held `low` or something below
    -- it, so that either it still does or something was taken out of it.
    local anew = facts.added < mark or (low and below(facts.last, before(low)))
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
  if base and found and low and below(found['last-delivered-id'], before(low)) then
    local rest = count_from(stream, low)
    if rest then call('XGROUP', 'SETID', stream, group, before(low), 'ENTRIESREAD', digits(facts.added - rest))
    else call('XGROUP', 'SETID', stream, group, before(low)) end
    mended[#mended + 1] = {'group.rewound', stage, 'group "' .. group .. '" had been set back to ' .. found['last-delivered-id'] .. '; moved on to ' .. before(low)}
  end
end
return mended

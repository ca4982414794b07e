-- One atomic step for a batch of one stage: acknowledgements, effects, ledger, id window (semantics.md section 4).
--
-- KEYS  1 input stream  2 ledger  3 counts  4 sessions:0  5 sessions:1  6 seen:0  7 seen:1  8 retry  9 settled  10 dead
--       11 output stream (the input stream again where there is none)
--       12 position (in shared stages: must not exist)    owned stages only: 13 lease  14 parked  15 state  16 timers
-- ARGV  1 group  2 consumer  3 stage  4 flags: r repeated, d id window on, o has an output
--       5 readers of the output  6 session_keep ms  7 window ms  8 max ids
--       9 msgpack { ids, kinds, event ids | 0, counts {field, delta, ...}, sessions {field, delta, ...},
--                   children {[index] = {fields, ...}}, dead {[index] = fields}, retries {[index] = {text}} , foreign_ok}
--       10 msgpack: per entry {position of delta, amount, ...} into the list `counts .. sessions`; unpacked only when an
--          entry falls out
--       an owner's commit only: 11 epoch  12 position it was read from  13 ttl ms  14 state block (state.lua) or nothing
--       flags of owned stages: w new entries, read without gaps after the position; p entries parked before; h parked
--       entries that a person settles by hand (no fence: who takes the id out of `parked` has it); s reads the source
-- Reply flat {index, code, ...} of the entries that were not applied: D duplicate, N not pending, S superseded, R redelivered.
--       An owner's commit: first 'OK' | 'FENCED' | 'MOVED' | 'STALE' | 'AGAIN', and '1' where a foreign reader was put right.
--       AGAIN names the entries with state that would fall out, and nothing was done: what others saw of them must not count.
-- Keeps: an owner's effects happen if and only if the position moves (new entries) or the id leaves `parked`; keyed state
-- is changed only by the owner, only from the versions that it has read, and together with all entries that it depends on.
-- Keeps: an entry's effects happen if and only if its acknowledgement does, and at most once, also after the group was
-- reset or re-created. Everything that can fail is checked before the first write, because Redis does not roll back.
local S, LEDGER, COUNTS, SETTLED, RETRY, DEAD, OUT = KEYS[1], KEYS[2], KEYS[3], KEYS[9], KEYS[8], KEYS[10], KEYS[11]
local group, consumer, stage, flags = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local repeated = string.find(flags, 'r', 1, true)
local window_on = string.find(flags, 'd', 1, true)
local has_output = string.find(flags, 'o', 1, true)
local readers = tonumber(ARGV[5])
local m = cmsgpack.unpack(ARGV[9])
local ids, kinds, events, counts, sessions = m[1], m[2], m[3], m[4], m[5]
local children, dead, retries = m[6], m[7], m[8]
local n = #ids
local kind_of = {string.byte(kinds, 1, n)}
local POSITION, LEASE, PARKED = KEYS[12], KEYS[13], KEYS[14]
local mode = string.match(flags, '[wph]')
local APPLIED, FILTERED, LATE, DISCARDED, DEAD_LETTERED, RETRIED, KNOWN = string.byte('aflxdru', 1, 7)

-- 1. Read only.
local wrong = check_types({S, 'stream', LEDGER, 'hash', COUNTS, 'hash', KEYS[4], 'hash', KEYS[5], 'hash', KEYS[6], 'hash',
  KEYS[7], 'hash', RETRY, 'hash', SETTLED, 'hash', DEAD, 'stream', OUT, 'stream'})
if wrong then return wrong end
local summary = pcall_('XPENDING', S, group)
if summary.err then return summary end
local state = call('HMGET', LEDGER, 'base:' .. stage, 'seen_gen', 'seen_since', 'sessions_gen', 'sessions_since')
if not state[1] then return redis.error_reply('NOGROUP the ledger of stage "' .. stage .. '" is gone') end
local now = now_ms()

-- Owned: the fence. The lease must be this owner's of this epoch, the position where this commit begins.
local reply, group_at, n_parked = {}, nil, 0
if mode then
  wrong = check_types({POSITION, 'string', LEASE, 'hash', PARKED, 'zset'})
  if wrong then return wrong end
  n_parked = call('ZCARD', PARKED)
elseif call('EXISTS', POSITION) == 1 then
  return redis.error_reply('BROKEN stage "' .. stage .. '" is worked by one owner in another daemon; give every daemon the same delivery')
end
if mode == 'w' or mode == 'p' then
  local lease = call('HMGET', LEASE, 'owner', 'epoch')
  if lease[1] ~= consumer or lease[2] ~= ARGV[11] then return {'FENCED', '0'} end
  local position = call('GET', POSITION)
  -- The reply to the first try was lost.
  if mode == 'w' and repeated and position == ids[n] then return {'OK', '0'} end
  if position ~= ARGV[12] then return {'MOVED', '0'} end
  reply = {'OK', '0'}
  group_at = group_of(S, group)
end

local function sums(key, list)
  -- New values of a list of counters, or an error reply when one is no integer or would not fit 15 digits.
  local fields = {}
  for i = 1, #list / 2 do fields[i] = list[2 * i - 1] end
  if #fields == 0 then return fields, {} end
  local old = call('HMGET', key, unpack(fields))
  for i = 1, #fields do
    local value = old[i] or '0'
    if not string.find(value, '^%-?%d+$') or #value > 15 then
      return nil, redis.error_reply('BROKEN field "' .. fields[i] .. '" of "' .. key .. '" is no integer of at most 15 digits')
    end
    local new = tonumber(value) + list[2 * i]
    if new >= 1e15 or new <= -1e15 then
      return nil, redis.error_reply('BROKEN field "' .. fields[i] .. '" of "' .. key .. '" would grow past 15 digits')
    end
    old[i] = new
  end
  return fields, old
end

local count_fields, count_values = sums(COUNTS, counts)
if not count_fields then return count_values end

-- Sessions: two generations; a touched session moves into the current one with its whole count.
local generation = tonumber(state[4] or '0')
local session_fields, session_values, session_older = {}, {}, {}
if #sessions > 0 then
  local swap = now - tonumber(state[5] or '0') > tonumber(ARGV[6])
  if swap then generation = 1 - generation end
  local current, older = KEYS[4 + generation], KEYS[5 - generation]
  for i = 1, #sessions / 2 do session_fields[i] = sessions[2 * i - 1] end
  local have = swap and {} or call('HMGET', current, unpack(session_fields))
  -- Most of the time there is no older generation, and asking for each field would cost as much as for the current one.
  if call('EXISTS', older) == 1 then session_older = call('HMGET', older, unpack(session_fields)) end
  for i = 1, #session_fields do
    local value = sessions[2 * i]
    if have[i] then value = value + (tonumber(have[i]) or 0) end
    if session_older[i] then value = value + (tonumber(session_older[i]) or 0) end
    session_values[i] = value
  end
  state.swap_sessions = swap
end

-- The id window: an entry is a duplicate if and only if its event id is known with another entry id.
local seen_generation = tonumber(state[2] or '0')
local known, known_older = {}, {}
if window_on then
  if call('EXISTS', KEYS[6]) == 1 then known = call('HMGET', KEYS[6], unpack(events)) end
  if call('EXISTS', KEYS[7]) == 1 then known_older = call('HMGET', KEYS[7], unpack(events)) end
end

-- Settled before: ids below `low`, and those in the spans of the last commits. A span is a field "from to" with the ids
-- as text, or "from to *" where every id in between is settled. Only a batch that overlaps one is looked at closely;
-- without a reset of the group that is a retried or claimed entry now and then.
local low = call('HGET', SETTLED, 'low')
local spans, n_listed, close = {}, 0, {}
local first, last = ids[1], ids[n]
for _, name in ipairs(mode and {} or call('HKEYS', SETTLED)) do
  local from, to, star = string.match(name, '^(%S+) (%S+) ?(%*?)$')
  if from then
    local span = {name = name, from = from, to = to, whole = star == '*'}
    spans[#spans + 1] = span
    if not span.whole then n_listed = n_listed + 1 end
    if not below(to, first) and not below(last, from) then close[#close + 1] = span end
  end
end
local suspicious = not mode and (#close > 0 or (low and below(first, low)))
local function in_span(span, id)
  if below(id, span.from) or below(span.to, id) then return false end
  if span.whole then return true end
  span.ids = span.ids or call('HGET', SETTLED, span.name)
  return string.find(span.ids, ' ' .. id .. ' ', 1, true) ~= nil
end
local function settled_before(id, among)
  if low and below(id, low) then return true end
  for i = 1, #among do
    if in_span(among[i], id) then return true end
  end
  return false
end

-- Keyed state: nothing may fall out that it depends on, and it must be what was read.
local block = mode and ARGV[14] and cmsgpack.unpack(ARGV[14])
if block then
  local depends, fresh, again = {}, {}, {'AGAIN', '0'}
  for _, i in ipairs(block[7]) do depends[i] = true end
  for i = 1, n do
    local id, event = ids[i], window_on and events[i] or ''
    if depends[i] and mode == 'p' and not call('ZSCORE', PARKED, id) then
      again[#again + 1] = i - 1
      again[#again + 1] = 'S'
    elseif event ~= '' and kind_of[i] ~= RETRIED and kind_of[i] ~= KNOWN then
      local first_entry = fresh[event] or known[i] or known_older[i]
      if not first_entry then fresh[event] = id
      elseif first_entry ~= id and depends[i] then
        again[#again + 1] = i - 1
        again[#again + 1] = 'D'
      end
    end
  end
  if #again > 2 then return again end
  local failed, is_same = state_check(KEYS[15], KEYS[16], block)
  if failed then return failed end
  if not is_same then return {'STALE', '0'} end
end

-- 2. Acknowledge one by one. Calls cost most here, so what an entry needs beside its XACK is done for all at once.
local dropped = {}
local new_events, settled, finished = {}, {}, {}
local n_new, n_settled, n_finished = 0, 0, 0
local n_duplicate, n_dropped = 0, 0
local batch_known = {}
for i = 1, n do
  local id = ids[i]
  local code = nil
  if kind_of[i] == RETRIED then
    local held = mode == 'w'
    if mode == nil then held = #call('XPENDING', S, group, id, id, 1, consumer) > 0
    elseif not held then held = call('ZSCORE', PARKED, id) end
    if not held then code = repeated and 'S' or 'N' end
  else
    local was_settled = suspicious and settled_before(id, close)
    local taken = 1
    if mode == nil then taken = call('XACK', S, group, id)
    elseif mode ~= 'w' then
      -- The set is the truth: also where somebody took the entry out of the pending list.
      taken = call('ZREM', PARKED, id)
      call('XACK', S, group, id)
    end
    if taken == 0 then
      code = (repeated or was_settled) and 'S' or 'N'
    else
      n_finished = n_finished + 1
      finished[n_finished] = id
      if was_settled then
        code = 'R'
      else
        n_settled = n_settled + 1
        settled[n_settled] = id
        if kind_of[i] == KNOWN then
          code = 'D'
          n_duplicate = n_duplicate + 1
        elseif window_on and events[i] ~= '' then
          local event = events[i]
          local first_entry = batch_known[event] or known[i] or known_older[i]
          if first_entry and first_entry ~= id then
            code = 'D'
            n_duplicate = n_duplicate + 1
          elseif not first_entry then
            batch_known[event] = id
            new_events[n_new + 1] = event
            new_events[n_new + 2] = id
            n_new = n_new + 2
          end
        end
      end
    end
  end
  if code then
    reply[#reply + 1] = i - 1
    reply[#reply + 1] = code
    dropped[i] = true
    n_dropped = n_dropped + 1
  end
end
if n_finished > 0 and call('EXISTS', RETRY) == 1 then call('HDEL', RETRY, unpack(finished)) end

-- Redis keeps a hash of up to 512 short fields as a list and walks over it for every field that is read or set: with 200
-- products that was a fifth of the time of a commit. A long field, gone again at once, turns it into a table until the
-- server loads it anew. Where the user may not ask for the encoding everything works as well, only slower.
local function as_table(key)
  if pcall_('OBJECT', 'ENCODING', key) == 'listpack' and call('HLEN', key) > 64 then
    local long = string.rep('-', 1024)
    call('HSET', key, long, '')
    call('HDEL', key, long)
  end
end

-- 3. Effects, without those of entries that fell out.
if n_dropped > 0 then
  local parts = cmsgpack.unpack(ARGV[10])
  local n_counts = #count_fields
  for i = 1, n do
    local part = dropped[i] and parts[i]
    if part then
      for j = 1, #part, 2 do
        local at = part[j]
        if at <= n_counts then count_values[at] = count_values[at] - part[j + 1]
        else session_values[at - n_counts] = session_values[at - n_counts] - part[j + 1] end
      end
    end
  end
end
if #count_fields > 0 and n_dropped < n then
  local set = {}
  for i = 1, #count_fields do
    set[2 * i - 1] = count_fields[i]
    set[2 * i] = integer(count_values[i])
  end
  set[#set + 1] = 'last_updated'
  set[#set + 1] = digits(now)
  call('HSET', COUNTS, unpack(set))
  as_table(COUNTS)
end
if #session_fields > 0 and n_dropped < n then
  local current, older = KEYS[4 + generation], KEYS[5 - generation]
  if state.swap_sessions then
    call('UNLINK', current)
    call('HSET', LEDGER, 'sessions_gen', generation, 'sessions_since', digits(now))
  end
  local set, gone, n_set = {}, {}, 0
  for i = 1, #session_fields do
    if session_values[i] > 0 then
      set[n_set + 1] = session_fields[i]
      set[n_set + 2] = integer(session_values[i])
      n_set = n_set + 2
      if session_older[i] then gone[#gone + 1] = session_fields[i] end
    end
  end
  if n_set > 0 then
    call('HSET', current, unpack(set))
    as_table(current)
  end
  if #gone > 0 then call('HDEL', older, unpack(gone)) end
end

local booked = {ended = 0, forwarded = 0, filtered = 0, late = 0, discarded = 0, dead = 0, spawned = 0}
local n_emitted = 0
for i = 1, n do
  if not dropped[i] then
    local kind = kind_of[i]
    if kind == APPLIED then
      local list = children[i]
      if list then
        for c = 1, #list do call('XADD', OUT, '*', unpack(list[c])) end
        n_emitted = n_emitted + #list
        booked.forwarded = booked.forwarded + 1
        booked.spawned = booked.spawned + #list * readers - 1
      else
        booked.ended = booked.ended + 1
      end
    elseif kind == RETRIED then
      call('HSET', RETRY, ids[i], retries[i])
      if mode then
        -- Parked. Followers of a parked entry wait for it, not for a time.
        local not_before, failures = string.match(retries[i], '^(%d+) (%d+) ')
        if failures == '0' then not_before = '+inf' end
        call('ZADD', PARKED, not_before, ids[i])
        local claimed = call('XCLAIM', S, group, 'parked', 0, ids[i], 'FORCE', 'JUSTID', 'RETRYCOUNT', failures)
        if #claimed == 0 then book_lost(S, group, stage, LEDGER, RETRY, DEAD, ids[i], now, PARKED) end
      end
    elseif kind == DEAD_LETTERED then
      call('XADD', DEAD, '*', '_stage', stage, '_stream', S, '_id', ids[i], unpack(dead[i]))
      booked.dead = booked.dead + 1
    elseif kind == FILTERED then booked.filtered = booked.filtered + 1
    elseif kind == LATE then booked.late = booked.late + 1
    elseif kind == DISCARDED then booked.discarded = booked.discarded + 1
    end
  end
end

-- 4. Ledger and id window.
for name, by in pairs(booked) do
  if by ~= 0 then call('HINCRBY', LEDGER, stage .. ':' .. name, by) end
end
if n_duplicate > 0 then call('HINCRBY', LEDGER, stage .. ':deduplicated', n_duplicate) end
if n_emitted > 0 then call('HINCRBY', LEDGER, 'emitted:' .. OUT, n_emitted) end
if n_new > 0 then
  local since = tonumber(state[3] or '0')
  local current = KEYS[6 + seen_generation]
  if now - since > tonumber(ARGV[7]) / 2 or call('HLEN', current) >= tonumber(ARGV[8]) / 2 then
    seen_generation = 1 - seen_generation
    current = KEYS[6 + seen_generation]
    call('UNLINK', current)
    call('HSET', LEDGER, 'seen_gen', seen_generation, 'seen_since', digits(now))
  end
  call('HSET', current, unpack(new_events))
end

-- 5. Owned: the position, and the group's own kept in step, so that every tool tells the right lag.
if mode == 'w' then
  local from, to = ARGV[12], ids[n]
  call('SET', POSITION, to)
  call('HSET', SETTLED, 'low', after(to) or to)
  local is_ahead = below(from, group_at['last-delivered-id'])
  if is_ahead then reply[2] = '1' end
  if summary[1] ~= n_parked then
    -- Somebody read entries of ours through the group: they are done now.
    for i = 1, n do
      if kind_of[i] ~= RETRIED and call('XACK', S, group, ids[i]) == 1 then reply[2] = '1' end
    end
  end
  local info = as_map(call('XINFO', 'STREAM', S))
  local added, length = info['entries-added'], info.length
  local first_there = info['first-entry'] and info['first-entry'][1]
  local read_before = group_at['last-delivered-id'] == from and group_at['entries-read'] or nil
  local unread = nil
  if not below(to, info['last-generated-id']) or #call('XRANGE', S, '(' .. to, '+', 'COUNT', 1) == 0 then unread = 0
  elseif first_there and below(to, first_there) then unread = length
  elseif first_there and below(from, first_there) then unread = length - #call('XRANGE', S, '-', to, 'COUNT', n) end
  local came = string.find(flags, 's', 1, true) and added or tonumber(call('HGET', LEDGER, 'emitted:' .. S) or '0')
  local left = came - base_of(LEDGER, stage) - settled_of(LEDGER, stage) - call('ZCARD', PARKED)
  if unread then
    -- What the ledger misses and the group had not read was trimmed or deleted unread (see the janitor).
    local missed = left - unread
    local open = read_before and added - read_before - n - unread or missed
    local lost = added == length and 0 or math.max(0, math.min(missed, open))
    if lost > 0 then call('HINCRBY', LEDGER, stage .. ':lost', lost) end
  elseif read_before then unread = added - read_before - n
  else unread = left end
  call('XGROUP', 'SETID', S, group, to, 'ENTRIESREAD', digits(math.max(0, math.min(added, added - unread))))
end
if mode == 'w' or mode == 'p' then call('HSET', LEASE, 'until', digits(now + tonumber(ARGV[13]))) end
if block then state_write(KEYS[15], KEYS[16], block, now) end

-- 6. Shared: the settled mark. Every delivered id below the oldest pending one is settled.
if not mode and #settled > 0 then
  -- The last entry acknowledged here, not the last of the batch: after the group was made anew an old batch may hold
  -- entries that this group has not delivered yet.
  local mark
  last = settled[#settled]
  summary = call('XPENDING', S, group)
  if summary[1] == 0 then mark = after(last) else mark = summary[2] end
  if mark and (not low or below(low, mark)) then
    call('HSET', SETTLED, 'low', mark)
    low = mark
  end
  if not low or not below(last, low) then
    call('HSET', SETTLED, settled[1] .. ' ' .. settled[#settled], ' ' .. table.concat(settled, ' ') .. ' ')
    n_listed = n_listed + 1
  end
  local kept = {}
  for i = 1, #spans do
    if low and below(spans[i].to, low) then call('HDEL', SETTLED, spans[i].name) else kept[#kept + 1] = spans[i] end
  end
  -- An old pending entry holds `low` back; so that the lists above it do not grow without end, they are folded into whole
  -- spans: between two entries that are rightly pending everything delivered is settled. An entry that is pending again
  -- after a reset is in a span already and does not split one.
  if n_listed > 16 and low and #kept > 0 then
    local rows = call('XPENDING', S, group, '-', '+', 1000)
    local limit = kept[1].to
    for i = 2, #kept do
      if below(limit, kept[i].to) then limit = kept[i].to end
    end
    -- Not past what this group has delivered: entries that were pending when it was re-created come again.
    local found = group_of(S, group)
    if found and below(found['last-delivered-id'], limit) then limit = found['last-delivered-id'] end
    if #rows == 1000 and below(rows[1000][1], limit) then limit = before(rows[1000][1]) end
    local from, set = low, {}
    for i = 1, #rows do
      local id = rows[i][1]
      if not below(limit, id) and not settled_before(id, kept) then
        local to = before(id)
        if not below(to, from) then
          set[#set + 1] = from .. ' ' .. to .. ' *'
          set[#set + 1] = ''
        end
        from = after(id) or id
      end
    end
    if not below(limit, from) then
      set[#set + 1] = from .. ' ' .. limit .. ' *'
      set[#set + 1] = ''
    end
    for i = 1, #kept do
      if not below(limit, kept[i].to) then call('HDEL', SETTLED, kept[i].name) end
    end
    if #set > 0 then call('HSET', SETTLED, unpack(set)) end
  end
end
return reply

-- Adds dead letters to the input of the stage where they died and marks them redriven, one step for all.
--
-- KEYS  1 dead  2 redriven  3 ledger  4 seen:0  5 seen:1  6.. input stream of each stage
-- ARGV  1 '1' = id window on  2 source stream  3 n stages  then per stage: name, readers of its input, name of the parent | ''
--       then per dead letter: id, event id (16 bytes or '')
-- Reply per dead letter: new id, or 'A' already redriven, 'T' trimmed (does not count), 'N' not found, 'F' cannot be added.
-- Keeps: dead + redriven stays the same; `accepted` does not change; the entry is no duplicate of its own first life.
local DEAD, REDRIVEN, LEDGER = KEYS[1], KEYS[2], KEYS[3]
local types = {DEAD, 'stream', REDRIVEN, 'hash', LEDGER, 'hash', KEYS[4], 'hash', KEYS[5], 'hash'}
local n_stages = tonumber(ARGV[3])
local stages, at = {}, 4
for i = 1, n_stages do
  stages[ARGV[at]] = {stream = KEYS[5 + i], readers = tonumber(ARGV[at + 1]), parent = ARGV[at + 2]}
  types[#types + 1] = KEYS[5 + i]
  types[#types + 1] = 'stream'
  at = at + 3
end
local wrong = check_types(types)
if wrong then return wrong end
local generation = tonumber(call('HGET', LEDGER, 'seen_gen') or '0')
local reply = {}
for i = at, #ARGV, 2 do
  local id, event = ARGV[i], ARGV[i + 1]
  local rows = call('XRANGE', DEAD, id, id)
  local code
  if #rows == 0 then code = 'N'
  elseif call('HEXISTS', REDRIVEN, id) == 1 then code = 'A'
  else
    local fields = rows[1][2]
    local meta = as_map({unpack(fields, 1, 18)})
    local stage = stages[meta._stage]
    if meta._counts ~= '1' then code = 'T'
    elseif not stage or #fields <= 18 or fields[19] == '_packed' or #fields > 4000 then code = 'F'
    else
      local again, reserved = {}, false
      for f = 19, #fields, 2 do
        if fields[f] ~= '_redrive' and fields[f] ~= '_redrive_for' then
          again[#again + 1] = fields[f]
          again[#again + 1] = fields[f + 1]
        end
      end
      again[#again + 1] = '_redrive'
      again[#again + 1] = id
      if stage.readers > 1 then
        -- The other readers of the stream have worked it in its first life.
        again[#again + 1] = '_redrive_for'
        again[#again + 1] = meta._stage
      end
      code = call('XADD', stage.stream, '*', unpack(again))
      call('HSET', REDRIVEN, id, code)
      call('HINCRBY', LEDGER, meta._stage .. ':dead', -1)
      if stage.parent == '' then
        -- entries-added grew by one; `accepted` must not, neither of the stage that takes the entry back nor of the whole.
        call('HINCRBY', LEDGER, 'readded:' .. meta._stage, 1)
        call('HINCRBY', LEDGER, 'readded', 1)
        -- Where others read the stream, too, its first life may not have come to them yet: it stays the known one, and the
        -- stage that takes the entry back does not look it up.
        local is_known = stage.readers > 1
          and (call('HEXISTS', KEYS[4], event) == 1 or call('HEXISTS', KEYS[5], event) == 1)
        if ARGV[1] == '1' and event ~= '' and not is_known then
          call('HDEL', KEYS[5 - generation], event)
          call('HSET', KEYS[4 + generation], event, code)
        end
      elseif stage.readers > 1 then
        -- Emitted once more for the other readers, not for the one that takes it back.
        call('HINCRBY', LEDGER, 'emitted:' .. stage.stream, 1)
        call('HINCRBY', LEDGER, 'readded:' .. meta._stage, 1)
        call('HINCRBY', LEDGER, stage.parent .. ':spawned', stage.readers - 1)
      end
    end
  end
  reply[#reply + 1] = code
end
return reply

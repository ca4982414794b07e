-- The stream's epoch: ids are unique and grow within one, and only there.
--
-- KEYS  1 source stream  2 ledger
-- ARGV  1 16 hex digits for a new epoch  2 the caller's epoch or ''  3 last id, 4 entries added and
--       5 print of the last entry or '', as the caller saw them
-- Reply {epoch, last id, entries added, print of the last entry | '', why it is new | ''}.
-- Keeps: an epoch is `number-random`. A new one begins, with a greater number, when the stream went back: behind what its
-- own hash remembers (the key was deleted), or behind what the caller remembers (the whole server is at an earlier instant,
-- hash included: restarted from an old file, or a replica that lacks the tail was made the master).
local S, LEDGER = KEYS[1], KEYS[2]
local wrong = check_types({S, 'stream', LEDGER, 'hash'})
if wrong then return wrong end
local last, added, first, deleted, length = '0-0', 0, nil, '0-0', 0
if call('EXISTS', S) == 1 then
  local info = as_map(call('XINFO', 'STREAM', S))
  last, added, length = info['last-generated-id'], info['entries-added'], info.length
  first, deleted = info['first-entry'] and info['first-entry'][1], info['max-deleted-entry-id'] or '0-0'
end

local function number(epoch) return tonumber(string.match(epoch or '', '^%d+') or '0') end

-- What the entry with this id says, as 40 hex digits; '' when it is not there. Of many and long fields only the beginnings
-- and lengths, and once for each id: a giant would keep the server busy.
local prints = {}
local function print_of(id)
  if prints[id] then return prints[id] end
  local entry = call('XRANGE', S, id, id)[1]
  prints[id] = ''
  if entry then
    local words, parts = entry[2], {#entry[2]}
    for i = 1, math.min(#words, 32) do parts[i + 1] = #words[i] .. ':' .. string.sub(words[i], 1, 256) end
    prints[id] = redis.sha1hex(table.concat(parts, ' '))
  end
  return prints[id]
end

-- Whether a stream that was at `id`, where `print` stood, with `n` entries added cannot have become what is here.
local function went_back(id, n, print)
  if below(last, id) or added < n then return true end
  if n == 0 or not first then return false end
  local here = print_of(id)
  -- With a clock that was set back even the very same id may come again.
  if here ~= '' then return print ~= '' and here ~= print end
  -- Nothing is missing of what was ever added, and all of it is younger: another stream of the same name.
  if added == length and below(id, first) then return true end
  -- Older entries are there and it was not deleted: others took its turn.
  return below(first, id) and below(deleted, id)
end

local stored = call('HMGET', LEDGER, 'epoch', 'epoch_last', 'epoch_added', 'epoch_print')
local epoch, known = stored[1], ARGV[2] ~= '' and ARGV[2] or nil
local why = ''
if not epoch then
  why = known and 'the server has forgotten it' or 'first'
elseif known and known ~= epoch and number(epoch) <= number(known) then
  why = 'the server is back in an earlier epoch'
elseif went_back(stored[2] or '0-0', tonumber(stored[3] or '0'), stored[4] or '') then
  why = 'the stream began anew'
elseif known == epoch and went_back(ARGV[3], tonumber(ARGV[4]), ARGV[5]) then
  why = 'the server is back at an earlier instant'
end
if why ~= '' then
  epoch = integer(math.max(number(epoch), number(known)) + 1) .. '-' .. ARGV[1]
end
local print = stored[4] or ''
if why ~= '' or stored[2] ~= last or stored[3] ~= digits(added) then
  print = print_of(last)
  call('HSET', LEDGER, 'epoch', epoch, 'epoch_last', last, 'epoch_added', digits(added), 'epoch_print', print)
end
return {epoch, last, added, print, why}

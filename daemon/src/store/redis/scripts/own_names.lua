-- Which operators of a stage keep state, and what of: noted in the field '=' of the state, a line 'name<tab>made of<tab>flag'
-- each, the flag '-' where no such operator is configured any more.
--
-- KEYS  1 state  2 timers
-- ARGV  1 stage  2... name, what it is made of
-- Reply list of {what, stage, detail}.
-- Keeps: state is never read by an operator that counts something else.
local STATE, TIMERS, stage = KEYS[1], KEYS[2], ARGV[1]
local wrong = check_types({STATE, 'hash', TIMERS, 'zset'})
if wrong then return wrong end
local names, known, told = {}, {}, {}
local noted = call('HGET', STATE, '=')
if not noted and #ARGV == 1 then return {} end
for name, made_of, flag in string.gmatch(noted or '', '([^\t\n]+)\t([^\t\n]+)\t([^\t\n]+)\n') do
  names[#names + 1] = name
  known[name] = {made_of = made_of, flag = flag}
end
local configured = {}
for i = 2, #ARGV, 2 do
  local name, made_of = ARGV[i], ARGV[i + 1]
  configured[name] = true
  local before = known[name]
  if not before then
    names[#names + 1] = name
    known[name] = {made_of = made_of, flag = '+'}
  elseif before.made_of ~= made_of then
    return redis.error_reply('BROKEN stage "' .. stage .. '" keeps state named "' .. name .. '" that was made by: ' .. before.made_of
      .. '; the configuration now says: ' .. made_of .. '. Give it another name (into), or forget the stage\'s state: redis-cli DEL '
      .. STATE .. ' ' .. TIMERS)
  elseif before.flag == '-' then
    before.flag = '+'
    told[#told + 1] = {'state.found', stage, 'operator "' .. name .. '" is configured again and goes on with the state that it left: what came meanwhile is not in it'}
  end
end
local lines = {}
for _, name in ipairs(names) do
  local one = known[name]
  if not configured[name] and one.flag ~= '-' then
    one.flag = '-'
    told[#told + 1] = {'state.left', stage, 'no operator "' .. name .. '" is configured any more; its state stays in ' .. STATE .. ' under ' .. name .. ':*'}
  end
  lines[#lines + 1] = name .. '\t' .. one.made_of .. '\t' .. one.flag .. '\n'
end
local text = table.concat(lines)
if text ~= noted then call('HSET', STATE, '=', text) end
return told

-- Deletes a consumer that holds nothing. KEYS 1 stream; ARGV 1 group 2 consumer. Reply entries it holds (0 = deleted).
-- Keeps: a consumer's pending entries are never dropped with it (XGROUP DELCONSUMER alone would).
local rows = pcall_('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000000, ARGV[2])
if rows.err then return rows end
if #rows > 0 then return #rows end
call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 0

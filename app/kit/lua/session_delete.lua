-- Ends one session and takes it out of its user's index.
-- KEYS[1] record
-- ARGV[1] digest of the id, ARGV[2] prefix of index keys, ARGV[3] the user it must belong to ('' anyone)
-- reply: 1, or 0 when there is no such session
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local user = redis.call('HGET', KEYS[1], 'user')
if ARGV[3] ~= '' and user ~= ARGV[3] then return 0 end
if user then redis.call('ZREM', ARGV[2] .. user, ARGV[1]) end
return redis.call('UNLINK', KEYS[1])

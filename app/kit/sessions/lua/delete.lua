-- needs: shared
-- Ends one session, takes it out of its user's index, and publishes the revocation. A repeat of the call gets the answer of the first.
-- KEYS[1] record, KEYS[2] this call, remembered for a minute
-- ARGV[1] digest of the id, ARGV[2] prefix of index keys, ARGV[3] the user it must belong to ('' anyone),
-- ARGV[4] channel of the revocations
-- reply: 1, or 0 when there is no such session
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
local count = remove_foreign(KEYS[1], 'hash')
if count > 0 then return removed(count) end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local user = redis.call('HGET', KEYS[1], 'user')
if ARGV[3] ~= '' and user ~= ARGV[3] then return 0 end
if user then
  count = remove_foreign(ARGV[2] .. user, 'zset')
  if count > 0 then return removed(count) end
  unlist(user, ARGV[1], ARGV[2], ARGV[4])
end
redis.call('UNLINK', KEYS[1])
redis.call('SET', KEYS[2], 1, 'PX', 60000)
return 1

-- needs: shared
-- Ends every session of a user but one, and sets a new epoch, which refuses the logins that are under way. A repeat of
-- the call ends nothing more, and gets the answer of the first.
-- KEYS[1] index, KEYS[2] epoch, KEYS[3] this call
-- ARGV[1] prefix of record keys, ARGV[2] new epoch, ARGV[3] its life in ms, ARGV[4] digest to keep ('' none),
-- ARGV[5] channel of the revocations, ARGV[6] the user, ARGV[7] how long this call is remembered, in ms
-- reply: how many were ended
local answered = redis.call('GET', KEYS[3])
if answered then return tonumber(answered) end
local count = remove_foreign(KEYS[1], 'zset')
if count > 0 then return removed(count) end
local ended = 0
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
for _, digest in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if digest ~= ARGV[4] then
    ended = ended + redis.call('UNLINK', ARGV[1] .. digest)
    redis.call('ZREM', KEYS[1], digest)
    redis.call('PUBLISH', ARGV[5], ARGV[6] .. ' ' .. digest)
  end
end
redis.call('SET', KEYS[3], ended, 'PX', ARGV[7])
return ended

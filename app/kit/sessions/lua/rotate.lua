-- Gives a session another id; its contents and its expiry stay. The old id is published as a revocation.
-- KEYS[1] record, KEYS[2] record under the new id; for a user also KEYS[3] index
-- ARGV[1] digest of the id, ARGV[2] digest of the new id, ARGV[3] channel of the revocations
-- reply: 1, or 0 when the session is gone
if redis.call('EXISTS', KEYS[1]) == 0 then
  -- The new id exists when this is a repeat whose first answer was lost.
  return redis.call('EXISTS', KEYS[2])
end
redis.call('RENAME', KEYS[1], KEYS[2])
-- Only what was indexed is indexed again: a new index would have no TTL.
if KEYS[3] and redis.call('ZREM', KEYS[3], ARGV[1]) == 1 then
  redis.call('ZADD', KEYS[3], redis.call('HGET', KEYS[2], 'expires'), ARGV[2])
end
local user = redis.call('HGET', KEYS[2], 'user')
if user then redis.call('PUBLISH', ARGV[3], user .. ' ' .. ARGV[1]) end
return 1

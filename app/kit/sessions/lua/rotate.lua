-- needs: shared
-- Gives a session another id; its contents and its expiry stay. The old id is published as a revocation.
-- KEYS[1] record, KEYS[2] record under the new id; for a user also KEYS[3] index
-- ARGV[1] digest of the id, ARGV[2] digest of the new id, ARGV[3] channel of the revocations
-- reply: 1, or 0 when the session is gone
local count = remove_foreign(KEYS[1], 'hash')
if KEYS[3] then count = count + remove_foreign(KEYS[3], 'zset') end
if count > 0 then return removed(count) end
if redis.call('EXISTS', KEYS[1]) == 0 then
  -- The new id exists when this is a repeat whose first answer was lost.
  return redis.call('EXISTS', KEYS[2])
end
local expires = time_of(KEYS[1], 'expires')
if not expires then return 0 end
if KEYS[3] then
  if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then
    end_unlisted(KEYS[1], ARGV[1], ARGV[3])
    return 0
  end
  -- In this order: an index that is empty for a moment is gone, and its TTL with it.
  redis.call('ZADD', KEYS[3], expires, ARGV[2])
  redis.call('ZREM', KEYS[3], ARGV[1])
end
redis.call('RENAME', KEYS[1], KEYS[2])
local user = redis.call('HGET', KEYS[2], 'user')
if user then redis.call('PUBLISH', ARGV[3], user .. ' ' .. ARGV[1]) end
return 1

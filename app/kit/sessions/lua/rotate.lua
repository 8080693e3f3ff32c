-- needs: shared
-- Gives a session another id; its contents and its expiry stay. The old id is published as a revocation.
-- KEYS[1] record, KEYS[2] record under the new id, KEYS[3] says that the id is superseded; for a user also
-- KEYS[4] index
-- ARGV[1] digest of the id, ARGV[2] digest of the new id, ARGV[3] channel of the revocations, ARGV[4] how long
-- KEYS[3] stays in ms
-- reply: 1, or 0 when the session is gone
local count = remove_foreign(KEYS[1], 'hash')
if KEYS[4] then count = count + remove_foreign(KEYS[4], 'zset') end
if count > 0 then return removed(count) end
if redis.call('EXISTS', KEYS[1]) == 0 then
  -- The new id exists when this is a repeat whose first answer was lost.
  return redis.call('EXISTS', KEYS[2])
end
local expires = time_of(KEYS[1], 'expires')
if not expires then return 0 end
if KEYS[4] then
  if not redis.call('ZSCORE', KEYS[4], ARGV[1]) then
    end_unlisted(KEYS[1], ARGV[1], ARGV[3])
    return 0
  end
  -- In this order: an index that is empty for a moment is gone, and its TTL with it.
  redis.call('ZADD', KEYS[4], expires, ARGV[2])
  redis.call('ZREM', KEYS[4], ARGV[1])
end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('UNLINK', KEYS[3])
redis.call('HSET', KEYS[3], 'renewed', 1)
redis.call('PEXPIRE', KEYS[3], ARGV[4])
local user = redis.call('HGET', KEYS[2], 'user')
if user then redis.call('PUBLISH', ARGV[3], user .. ' ' .. ARGV[1]) end
return 1

-- needs: shared
-- Stores a new session. For a user it is also indexed, and beyond the cap those that would end first are ended.
-- KEYS[1] record; for a user also KEYS[2] index (scored by expiry), KEYS[3] epoch
-- ARGV[1] idle ms, ARGV[2] absolute ms, ARGV[3] digest of the id, ARGV[4] prefix of record keys, ARGV[5] cap,
-- ARGV[6] the epoch that the caller read ('' none, '*' any), ARGV[7] channel of the revocations,
-- ARGV[8] the life of an epoch in ms, then field, value, field, value, ...
-- reply: {created ms, expires ms}; nil when all of the user's sessions were ended since the epoch was read
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local idle, absolute = tonumber(ARGV[1]), tonumber(ARGV[2])
local function whole(number) return string.format('%.0f', number) end

if KEYS[2] then
  local count = remove_foreign(KEYS[2], 'zset')
  if remove_foreign(KEYS[3], 'string') > 0 then
    -- The epoch is lost, and may have been a new one: the logins under way are refused.
    redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[8])
    count = count + 1
  end
  if count > 0 then return removed(count) end
end

if KEYS[3] and ARGV[6] ~= '*' then
  local epoch = redis.call('GET', KEYS[3])
  -- A missing epoch has expired: nothing was ended for longer than a login takes.
  if epoch and epoch ~= ARGV[6] then return nil end
end

local left = math.min(idle, absolute)
redis.call('HSET', KEYS[1], 'created', whole(now), 'active', whole(now), 'expires', whole(now + left),
  'deadline', whole(now + absolute))
for i = 9, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[1], whole(left))

if KEYS[2] then
  -- Out first, so that repeating this call changes nothing.
  redis.call('ZREM', KEYS[2], ARGV[3])
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now))
  local excess = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[5]) + 1
  if excess > 0 then
    for _, digest in ipairs(redis.call('ZRANGE', KEYS[2], 0, excess - 1)) do
      redis.call('UNLINK', ARGV[4] .. digest)
      redis.call('ZREM', KEYS[2], digest)
      redis.call('PUBLISH', ARGV[7], redis.call('HGET', KEYS[1], 'user') .. ' ' .. digest)
    end
  end
  redis.call('ZADD', KEYS[2], whole(now + left), ARGV[3])
  -- The index outlives each session in it.
  if redis.call('PTTL', KEYS[2]) < absolute then redis.call('PEXPIRE', KEYS[2], whole(absolute)) end
end
return {whole(now), whole(now + left)}

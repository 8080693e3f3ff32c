-- needs: shared
-- Merges changed fields into a session that still exists, and slides its expiry. Without fields it only slides.
-- KEYS[1] record; for a user also KEYS[2] index
-- ARGV[1] idle ms, ARGV[2] digest of the id, ARGV[3] the most bytes of data fields and their values, ARGV[4] channel of
-- the revocations, ARGV[5] how many fields change, then field, value for each of them; the rest are the fields to remove
-- reply: {active ms, expires ms}; nil when the session is gone; {} when it would be too large, and nothing was written
local count = remove_foreign(KEYS[1], 'hash')
if KEYS[2] then count = count + remove_foreign(KEYS[2], 'zset') end
if count > 0 then return removed(count) end
local deadline = time_of(KEYS[1], 'deadline')
if not deadline then return nil end

if KEYS[2] and not redis.call('ZSCORE', KEYS[2], ARGV[2]) then
  end_unlisted(KEYS[1], ARGV[2], ARGV[4])
  return nil
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local expires = math.min(now + tonumber(ARGV[1]), deadline)
local function whole(number) return string.format('%.0f', number) end

local last = 5 + 2 * tonumber(ARGV[5])
if last > 5 then
  local size, named = 0, {}
  for i = 6, last, 2 do
    named[ARGV[i]] = true
    size = size + #ARGV[i] - 2 + #ARGV[i + 1]
  end
  for i = last + 1, #ARGV do named[ARGV[i]] = true end
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 2) == 'd:' and not named[field] then
      size = size + #field - 2 + redis.call('HSTRLEN', KEYS[1], field)
    end
  end
  if size > tonumber(ARGV[3]) then return {} end
end
for i = 6, last, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
for i = last + 1, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
redis.call('HSET', KEYS[1], 'active', whole(now), 'expires', whole(expires))
redis.call('PEXPIREAT', KEYS[1], whole(expires))
if KEYS[2] then redis.call('ZADD', KEYS[2], whole(expires), ARGV[2]) end
return {whole(now), whole(expires)}

-- Renew a node's lease, note who came to it and who left it, and count out the users of nodes whose lease has expired.
-- KEYS: 1 nodes by the end of their lease, 2 for each user the number of nodes, 3 users by the time they came online,
--       4 changes to be published, 5 nodes to be counted out, 6 this node's users
-- ARGV: 1 node, 2 lease ms, 3 "1" when the node begins, 4 TTL of all keys in ms, 5 most users counted out at once,
--       6 the prefix of the keys of nodes' users, 7 how many users come, these users, then the users who leave
-- Reply: {1 when the node is known or 0 when it must begin anew, how many changes wait}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function leave(user)
  if redis.call('HINCRBY', KEYS[2], user, -1) <= 0 then
    redis.call('HDEL', KEYS[2], user)
    redis.call('ZREM', KEYS[3], user)
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', '100000', '*', 'type', 'user_offline', 'user', user)
  end
end

-- A node that others have counted out has no users any more. Nothing may be added under its old name.
if ARGV[3] ~= '1' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return {0, 0}
end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])

local last = 7 + ARGV[7]
for at = 8, last do
  if redis.call('SADD', KEYS[6], ARGV[at]) == 1 and redis.call('HINCRBY', KEYS[2], ARGV[at], 1) == 1 then
    redis.call('ZADD', KEYS[3], now, ARGV[at])
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', '100000', '*', 'type', 'user_online', 'user', ARGV[at])
  end
end
for at = last + 1, #ARGV do
  if redis.call('SREM', KEYS[6], ARGV[at]) == 1 then
    leave(ARGV[at])
  end
end

for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  redis.call('ZREM', KEYS[1], node)
  redis.call('SADD', KEYS[5], node)
end
local node = redis.call('SRANDMEMBER', KEYS[5])
if node then
  local users = redis.call('SPOP', ARGV[6] .. node, ARGV[5])
  for _, user in ipairs(users) do
    leave(user)
  end
  if #users < tonumber(ARGV[5]) then
    redis.call('SREM', KEYS[5], node)
  end
end

for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, ARGV[4])
end
return {1, redis.call('XLEN', KEYS[4])}

-- needs: shared
-- Lists a user's sessions, the one that would end first at the front, and prunes the index.
-- KEYS[1] index
-- ARGV[1] prefix of record keys
-- reply: {{digest, created ms, active ms, ip, user agent}, ...}
local count = remove_foreign(KEYS[1], 'zset')
if count > 0 then return removed(count) end
local sessions = {}
for _, digest in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  count = count + remove_foreign(ARGV[1] .. digest, 'hash')
  if time_of(ARGV[1] .. digest, 'created') and time_of(ARGV[1] .. digest, 'active') then
    local found = redis.call('HMGET', ARGV[1] .. digest, 'created', 'active', 'm:ip', 'm:user_agent')
    table.insert(sessions, {digest, found[1], found[2], found[3] or '', found[4] or ''})
  else
    redis.call('ZREM', KEYS[1], digest)
  end
end
if count > 0 then return removed(count) end
return sessions

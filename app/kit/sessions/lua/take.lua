-- needs: shared
-- Ends a session whose data another one takes over, if the caller has all of it. What it held stays for a minute under
-- a key that no id leads to: of two logins at once the second finds it there, and so does the repeat of a call.
-- KEYS[1] record, KEYS[2] what is left of it, which also says that the id is superseded
-- ARGV[1] digest of the id, ARGV[2] prefix of index keys, ARGV[3] channel of the revocations, ARGV[4] how long the data
-- stays in ms, ARGV[5] the user whose session it is ('' a visitor's), then field, value, ... of the data that the caller has
-- reply: nil when the session has ended, and the caller has its data or there is none; else {field, value, ...}, its
-- data, and nothing was changed
local count = remove_foreign(KEYS[1], 'hash', KEYS[2], 'hash')
if count > 0 then return removed(count) end
local is_live = redis.call('EXISTS', KEYS[1]) == 1
if not is_live then
  -- None, or a renewed session, or one of another user.
  local left = redis.call('HMGET', KEYS[2], 'channel', 'user')
  if not left[1] or (left[2] or '') ~= ARGV[5] then return nil end
end

local caller_has, missing = {}, 0
for i = 6, #ARGV, 2 do
  caller_has[ARGV[i]] = ARGV[i + 1]
  missing = missing + 1
end
local data, differs = {}, false
local found = redis.call('HGETALL', KEYS[is_live and 1 or 2])
for i = 1, #found, 2 do
  if string.sub(found[i], 1, 2) == 'd:' then
    table.insert(data, found[i])
    table.insert(data, found[i + 1])
    if caller_has[found[i]] then missing = missing - 1 end
    differs = differs or caller_has[found[i]] ~= found[i + 1]
  end
end
if differs or missing > 0 then return data end

if is_live then
  local user = redis.call('HGET', KEYS[1], 'user')
  if user then
    count = remove_foreign(ARGV[2] .. user, 'zset')
    if count > 0 then return removed(count) end
    unlist(user, ARGV[1], ARGV[2], ARGV[3])
  end
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return nil

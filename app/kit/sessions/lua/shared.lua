-- What several scripts need.

-- Removes the keys that have another type than expected: another program has written them, and they hold no session.
-- Takes key, type, key, type, ... and returns how many were removed. Where there were some the script returns
-- removed(count); its caller counts them and runs it again.
local function remove_foreign(...)
  local count, expected = 0, {...}
  for i = 1, #expected, 2 do
    local found = redis.call('TYPE', expected[i])['ok']
    if found ~= expected[i + 1] and found ~= 'none' then count = count + redis.call('UNLINK', expected[i]) end
  end
  return count
end

local function removed(count) return redis.error_reply('FOREIGN ' .. count) end

-- Takes a session that ends out of its user's index, and publishes the revocation.
local function unlist(user, digest, prefix, channel)
  redis.call('ZREM', prefix .. user, digest)
  redis.call('PUBLISH', channel, user .. ' ' .. digest)
end

-- A time in ms as a record has it; nil for anything else, and for more than 14 digits (the year 5138).
local function time_of(record, field)
  local text = redis.call('HGET', record, field)
  return text and #text < 15 and tonumber(string.match(text, '^%d+$')) or nil
end

-- Ends a session that its user's index does not list: the end of all sessions would not reach it.
local function end_unlisted(record, digest, channel)
  local user = redis.call('HGET', record, 'user')
  redis.call('UNLINK', record)
  if user then redis.call('PUBLISH', channel, user .. ' ' .. digest) end
end


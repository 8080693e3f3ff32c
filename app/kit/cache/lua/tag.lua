-- needs: memory
-- The version of a tag; a new one if it has none.
--
-- KEYS[1]  the tag
-- ARGV[1]  a random part for a new version
-- ARGV[2]  how long a new version lives, in ms
-- ARGV[3]  the share of the server's memory in use up to which it is written, in percent; empty: no bound
-- reply    {version, age in µs by this server's clock}; where memory is short, a new version is not written, so that
--          an entry with it is a miss
--
-- A version is "TIME-RANDOM": when it was made, in µs by this server's clock, and the random part.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- MGET replies nil for a key of another type, where GET raises an error.
local version = redis.call('MGET', KEYS[1])[1]
local digits = version and string.match(version, '^(%d+)-%x+$')
-- A value that this script cannot have written is replaced; 16 digits of µs last until the year 2286.
local made = digits and #version <= 64 and #digits <= 16 and tonumber(digits)
if not made then
  made = now
  version = string.format('%.0f', now) .. '-' .. ARGV[1]
  if not is_full(ARGV[3], 0) then
    redis.call('SET', KEYS[1], version, 'PX', ARGV[2])
  end
end
return {version, string.format('%.0f', now - made)}

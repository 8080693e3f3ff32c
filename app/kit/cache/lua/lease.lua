-- Take the lease of a cache entry, unless the entry has been written since the caller looked.
--
-- KEYS[1]  the entry
-- KEYS[2]  its lease
-- ARGV[1]  the caller's token: asking again with the same one does no harm
-- ARGV[2]  how long the lease lasts, in ms
-- ARGV[3]  the first 21 bytes of the entry that the caller cannot use; empty: it found none
-- reply    {1}: the lease is the caller's
--          {0}: another holds it
--          {0, entry, ms until it expires}: the entry is a new one

-- MGET replies nil for a key of another type, where GET raises an error.
local found = redis.call('MGET', KEYS[1], KEYS[2])
local entry, holder = found[1], found[2]

if entry and string.sub(entry, 1, 21) ~= ARGV[3] then
  return {0, entry, redis.call('PTTL', KEYS[1])}
end
if holder and holder ~= ARGV[1] then
  return {0}
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {1}
